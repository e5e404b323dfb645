#include "library.h"

#include "interrupt.h"

namespace tool {

void raise(int32_t status, finermoe_error* error) {
  const std::string message = finermoe_error_message(error);
  finermoe_error_free(error);
  const int number = last_signal();
  if (status == FINERMOE_ERROR_CANCELLED && number != 0) throw LibraryError(status, 128 + number, "cancelled");
  throw LibraryError(status, kError, message + " (" + finermoe_status_name(status) + ")");
}

}  // namespace tool
