"""What the API back ends are made of.

model      a model behind a provider's SDK: the walk over a node's queries
account    what all its requests share: key, price, limiter, terms, what answers have shown
endpoint   how requests of one kind are made, sent and read
requests   the requests behind one node, sent until they are answered or their fate is clear
warming    the first queries of a node, which go alone
fan_out    the others, few at a time
body       the JSON of a node's requests, escaped once
api_args   the options that every API takes
access     keys, base URLs, SDKs
client     the HTTP client that the SDKs are given
caching    what of a prefix is worth a cache, and for how long
limiter    how many requests may be in flight, one limiter an account
timing     how long to wait, and how often to try again
faults     what went wrong with a request, and what becomes of it
prices     tokens to dollars
terms      what a run allows: rates, dollars, waits, where things are written down
ledger     what a run owns at its providers
counting   the tokens of a prompt, for a plan
foresight  what requests will take: tokens by kind, dollars, as the caches will have it
tokenizer  the token ids of a prompt, where the server takes them
decisions  many queries weighed behind one prefix
batcher    requests submitted together, at half the price: batch_file writes them, batch_jobs
           submits and fetches them, by what batch_api says of the provider
"""
