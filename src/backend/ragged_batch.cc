#include "backend/backend.h"

namespace finermoe {

Status RaggedBatch::check_ids(uint64_t vocab_size) const {
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<uint64_t>(token) >= vocab_size) {
      return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                    format_text("token id ", token, " is outside the vocabulary of ", vocab_size),
                    format_text("0 to ", vocab_size - 1), format_text(token));
    }
  }
  return {};
}

}  // namespace finermoe
