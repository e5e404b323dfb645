#include "tokenizer.h"

#include "library.h"

namespace tool {

Tokenizer find_tokenizer(const Model& model, std::string* fault) {
  Tokenizer tokenizer;
  try {
    call(finermoe_tokenizer_open_model, model.get(), tokenizer.out());
  } catch (const LibraryError& error) {
    if (error.status() != FINERMOE_ERROR_NO_TOKENIZER && fault != nullptr) *fault = error.what();
  }
  return tokenizer;
}

Tokenizer need_tokenizer(const Model& model) {
  Tokenizer tokenizer;
  call(finermoe_tokenizer_open_model, model.get(), tokenizer.out());
  return tokenizer;
}

uint32_t TextFlags::of_library() const {
  return static_cast<uint32_t>((special ? FINERMOE_TEXT_PARSE_SPECIAL : 0) |
                               (no_special_tokens ? FINERMOE_TEXT_NO_SPECIAL_TOKENS : 0));
}

void add_text_flags(CLI::App& app, TextFlags& flags, const std::string& group) {
  app.add_flag("--special", flags.special, "special tokens written in the text become their ids")->group(group);
  app.add_flag("--no-special-tokens", flags.no_special_tokens,
               "without the special tokens (BOS, EOS) that some tokenizers put around a text")
      ->group(group);
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text, const TextFlags& flags,
                            std::vector<uint64_t>* offsets) {
  // A token covers at least one byte; only normalization can make a text longer, in which case a second try is needed.
  std::vector<int32_t> ids(text.size() + 16);
  size_t needed = 0;
  for (int attempt = 0;; ++attempt) {
    if (offsets != nullptr) offsets->resize(2 * ids.size());
    finermoe_error* error = nullptr;
    const int32_t status =
        finermoe_tokenizer_encode(tokenizer.get(), text.data(), text.size(), flags.of_library(), ids.data(),
                                  offsets != nullptr ? offsets->data() : nullptr, ids.size(), &needed, &error);
    if (status == FINERMOE_OK) break;
    if (status != FINERMOE_ERROR_BUFFER_TOO_SMALL || attempt > 0) raise(status, error);
    finermoe_error_free(error);
    ids.resize(needed);
  }
  ids.resize(needed);
  if (offsets != nullptr) offsets->resize(2 * needed);
  return ids;
}

}  // namespace tool
