"""Define a word with a FineRMoE model: define.py MODEL (bindings/finermoe.i makes the module)."""
import sys

import finermoe as fm

model = fm.model_open(sys.argv[1], None)
session = fm.session_create(model, None)
chat = fm.chat_create()
fm.chat_add(chat, "user", 'Define the noun "lighthouse".')
ids = fm.chat_encode(chat, fm.tokenizer_open_model(model), fm.TEXT_DEFAULT)
generation = fm.generation_create(session, None, ids)
finish = fm.FINISH_NONE
while finish == fm.FINISH_NONE:
    event = fm.generation_next(generation, None)
    print(event.text, end="", flush=True)
    finish = event.finish_reason
print()

try:
    fm.model_open("/no/such/model", None)
except fm.Error as error:
    print("error", fm.status_name(error.code))

cancel = fm.cancel_create()
fm.cancel_request(cancel)
fm.session_reset(session)
request = fm.generation_create_chat(session, None, chat, 0)
try:
    fm.generation_next(request, cancel)
except fm.Error as error:
    print("cancelled", fm.status_name(error.code))

fm.model_close(model)
del model, session, chat, generation, request, cancel, event  # any order will do
print("closed")
