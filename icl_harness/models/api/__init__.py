"""What the API back ends are made of (floor 2).

backend   one model behind a provider's SDK: the walk over a node's queries, retries, fates
args      `--model-arg`, keys, base URLs
body      the JSON of a node's requests, escaped once
caching   what of a prefix is worth a cache, and for how long
counting  the tokens of a prompt before it is asked
faults    what went wrong with a request, and what becomes of it
foresight what requests will take: tokens by kind, dollars, as the caches will have it
limiter   how many requests may fly, one limiter an account
prices    tokens to dollars
tokenizer the token ids of a prompt, where the server takes them
terms     what a run allows: rates, dollars, where things are written down
batches   requests handed in together, at half the price: batch_file writes them, batch_desk hands them in and
          fetches them, by what batch_api says of the provider
"""
