// The bundled chat model, with a session on it and its own options and tokenizer.
#pragma once

#include "../support/golden.h"
#include "../support/handles.h"

class OnTheBundledModel : public testing::Test {
 protected:
  ModelHandle model = open_model(golden::trained("tiny-wordnet-finermoe"));
  SessionHandle session = open_session(model.get(), 256);
  GenerationOptions options = generation_options(model.get());
  TokenizerHandle tokenizer =
      make<TokenizerHandle>([&](auto** out, auto** e) { return finermoe_tokenizer_open_model(model.get(), out, e); });
};
