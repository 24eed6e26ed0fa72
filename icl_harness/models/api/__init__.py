"""What the API back ends are made of.

backend    one model behind a provider's SDK: the walk over a node's queries
asks       the requests behind one node, sent until they are answered or their fate is clear
warming    the first queries of a node, which go alone
fan_out    the others, few at a time
body       the JSON of a node's requests, escaped once
args       `--model-arg`, keys, base URLs
client     the HTTP client that the SDKs are given
caching    what of a prefix is worth a cache, and for how long
limiter    how many requests may fly, one limiter an account
faults     what went wrong with a request, and what becomes of it
prices     tokens to dollars
terms      what a run allows: rates, dollars, where things are written down
counting   the tokens of a prompt before it is asked
foresight  what requests will take: tokens by kind, dollars, as the caches will have it
tokenizer  the token ids of a prompt, where the server takes them
decisions  many queries weighed behind one prefix
batches    requests handed in together, at half the price: batch_file writes them, batch_desk hands them in and
           fetches them, by what batch_api says of the provider
"""
