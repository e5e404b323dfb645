// Sections 1 and 2 of finermoe.h: version, errors, cancel.
#include "api/handles.h"

namespace finermoe::api {
namespace {

// Returned when there is no memory for an error object: creating, reading or freeing it needs no memory, and it exists
// until the process ends. Its message is in finermoe_error_message, since a std::string of that length allocates.
finermoe_error* out_of_memory_error() noexcept {
  alignas(finermoe_error) static std::byte storage[sizeof(finermoe_error)];
  static auto* error = new (storage) finermoe_error{Status(FINERMOE_ERROR_OUT_OF_MEMORY, {})};
  return error;
}

int32_t report_out_of_memory(finermoe_error** error) noexcept {
  if (error != nullptr) *error = out_of_memory_error();
  return FINERMOE_ERROR_OUT_OF_MEMORY;
}

}  // namespace

int32_t report(finermoe_error** error, Status status) noexcept {
  const int32_t code = status.code();
  if (error == nullptr) return code;
  *error = nullptr;
  if (status.ok()) return code;
  *error = new (std::nothrow) finermoe_error{std::move(status)};
  return *error != nullptr ? code : report_out_of_memory(error);
}

int32_t report_exception(finermoe_error** error) noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return report_out_of_memory(error);
  } catch (const std::exception& exception) {
    try {
      return report(error, Status(FINERMOE_ERROR_INTERNAL, exception.what()));
    } catch (const std::bad_alloc&) {
      return report_out_of_memory(error);
    }
  } catch (...) {
    return report(error, Status(FINERMOE_ERROR_INTERNAL, "a fault"));  // short enough to need no memory
  }
}

Status require_range(double value, bool is_in_range, const char* name, const char* range) {
  if (is_in_range) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text(name, " is ", value, " but must be ", range), range,
                format_text(value));
}

Status require_flag(int32_t value, const char* name) {
  return require_range(value, value == 0 || value == 1, name, "0 or 1");
}

Status require_flags(uint32_t flags, uint32_t allowed) {
  if ((flags & ~allowed) == 0) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("flags ", flags, " are not all known here"),
                format_text("any of the bits of ", allowed), format_text(flags));
}

std::string whole_utf8(std::string_view text) {
  std::string out;
  Utf8Stream utf8;
  utf8.push(text, out);
  utf8.flush(out);
  return out;
}

Status require_index(size_t index, size_t count, const char* name) {
  if (index < count) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("there is no ", name, " ", index),
                format_text("less than ", count), format_text(index));
}

}  // namespace finermoe::api

using namespace finermoe;
using namespace finermoe::api;

const char* finermoe_version(void) { return FINERMOE_VERSION; }
uint32_t finermoe_abi_version(void) { return FINERMOE_ABI_VERSION; }

const char* finermoe_status_name(int32_t status) {
  switch (status) {
#define NAME(code) \
  case code:       \
    return #code;
    NAME(FINERMOE_OK)
    NAME(FINERMOE_ERROR_INVALID_ARGUMENT)
    NAME(FINERMOE_ERROR_BUFFER_TOO_SMALL)
    NAME(FINERMOE_ERROR_BUSY)
    NAME(FINERMOE_ERROR_CLOSED)
    NAME(FINERMOE_ERROR_CANCELLED)
    NAME(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE)
    NAME(FINERMOE_ERROR_CONTEXT_LENGTH)
    NAME(FINERMOE_ERROR_NO_TOKENIZER)
    NAME(FINERMOE_ERROR_STATE)
    NAME(FINERMOE_ERROR_UNSUPPORTED)
    NAME(FINERMOE_ERROR_INTERNAL)
    NAME(FINERMOE_ERROR_NOT_FINITE)
    NAME(FINERMOE_ERROR_OUT_OF_MEMORY)
    NAME(FINERMOE_ERROR_MEMORY_LIMIT)
    NAME(FINERMOE_ERROR_DISK_FULL)
    NAME(FINERMOE_ERROR_THREAD)
    NAME(FINERMOE_ERROR_FILE_NOT_FOUND)
    NAME(FINERMOE_ERROR_FILE_UNREADABLE)
    NAME(FINERMOE_ERROR_FILE_EXISTS)
    NAME(FINERMOE_ERROR_FILE_WRITE)
    NAME(FINERMOE_ERROR_SHARD_NOT_FOUND)
    NAME(FINERMOE_ERROR_FILE_CHANGED)
    NAME(FINERMOE_ERROR_PATH)
    NAME(FINERMOE_ERROR_HEADER_TRUNCATED)
    NAME(FINERMOE_ERROR_HEADER_TOO_LARGE)
    NAME(FINERMOE_ERROR_HEADER_MALFORMED)
    NAME(FINERMOE_ERROR_DATA_TRUNCATED)
    NAME(FINERMOE_ERROR_OFFSETS_OVERLAP)
    NAME(FINERMOE_ERROR_OFFSETS_INVALID)
    NAME(FINERMOE_ERROR_TENSOR_DUPLICATE)
    NAME(FINERMOE_ERROR_TENSOR_DTYPE)
    NAME(FINERMOE_ERROR_TENSOR_SHAPE)
    NAME(FINERMOE_ERROR_TENSOR_MISSING)
    NAME(FINERMOE_ERROR_INDEX_MALFORMED)
    NAME(FINERMOE_ERROR_CONFIG_MALFORMED)
    NAME(FINERMOE_ERROR_CONFIG_MISSING)
    NAME(FINERMOE_ERROR_CONFIG_VALUE)
    NAME(FINERMOE_ERROR_CONFIG_INCONSISTENT)
    NAME(FINERMOE_ERROR_MODEL_TYPE)
    NAME(FINERMOE_ERROR_SLIDING_WINDOW)
    NAME(FINERMOE_ERROR_ROPE_SCALING)
    NAME(FINERMOE_ERROR_TOKENIZER_MALFORMED)
    NAME(FINERMOE_ERROR_TOKENIZER_MERGES)
    NAME(FINERMOE_ERROR_TOKENIZER_CYCLIC)
    NAME(FINERMOE_ERROR_TOKENIZER_COMPONENT)
    NAME(FINERMOE_ERROR_CHAT_TEMPLATE)
    NAME(FINERMOE_ERROR_SESSION_MALFORMED)
    NAME(FINERMOE_ERROR_SESSION_MISMATCH)
    NAME(FINERMOE_ERROR_CHECKSUM)
    NAME(FINERMOE_ERROR_NO_DRIVER)
    NAME(FINERMOE_ERROR_DRIVER_TOO_OLD)
    NAME(FINERMOE_ERROR_NO_DEVICE)
    NAME(FINERMOE_ERROR_DEVICE_MEMORY)
    NAME(FINERMOE_ERROR_DEVICE_LOST)
#undef NAME
    default:
      return "FINERMOE_ERROR_UNKNOWN";
  }
}

int32_t finermoe_error_code(const finermoe_error* error) { return error ? error->status.code() : FINERMOE_OK; }
const char* finermoe_error_message(const finermoe_error* error) {
  if (error == out_of_memory_error()) return "the system refused memory";
  return error ? error->status.message().c_str() : "";
}
const char* finermoe_error_expected(const finermoe_error* error) {
  return error ? error->status.expected().c_str() : "";
}
const char* finermoe_error_found(const finermoe_error* error) { return error ? error->status.found().c_str() : ""; }
void finermoe_error_free(finermoe_error* error) {
  if (error != out_of_memory_error()) delete error;
}

int32_t finermoe_cancel_create(finermoe_cancel** cancel, finermoe_error** error) {
  return guarded(error, [&] { return give(cancel, std::make_shared<CancelFlag>(false)); });
}
void finermoe_cancel_request(finermoe_cancel* cancel) {
  if (cancel) cancel->flag->store(true, std::memory_order_relaxed);
}
void finermoe_cancel_reset(finermoe_cancel* cancel) {
  if (cancel) cancel->flag->store(false, std::memory_order_relaxed);
}
int32_t finermoe_cancel_requested(const finermoe_cancel* cancel) {
  return cancel && cancel->flag->load(std::memory_order_relaxed) ? 1 : 0;
}
void finermoe_cancel_free(finermoe_cancel* cancel) { delete cancel; }
