// Reads tokenizer.json and vocab.json. Vocabulary and merges, with some 100,000 entries each, are stored in lists
// instead of the document.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer_json.h"

namespace finermoe {

// The document, with /model/vocab and /model/merges left empty: they are appended to `file`.
Result<Json> read_tokenizer_document(std::string_view text, TokenizerFile& file);
// vocab.json: the vocabulary by itself.
Status read_vocabulary(std::string_view text, TokenizerFile& file);

}  // namespace finermoe
