#include "common.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "progress.h"

namespace tool {

namespace {

std::atomic<finermoe_cancel*> interrupt_target{nullptr};
volatile sig_atomic_t interrupt_signal = 0;

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

void on_signal(int number) {
  interrupt_signal = number;
  if (finermoe_cancel* cancel = interrupt_target.load()) finermoe_cancel_request(cancel);
}

}  // namespace

void raise(int32_t status, finermoe_error* error) {
  const std::string message = finermoe_error_message(error);
  finermoe_error_free(error);
  if (status == FINERMOE_ERROR_CANCELLED && interrupt_signal != 0) {
    throw LibraryError(status, 128 + interrupt_signal, "cancelled");
  }
  throw LibraryError(status, kError, message + " (" + finermoe_status_name(status) + ")");
}

Interrupt::Interrupt(Manner manner) : manner_(manner) {
  call(finermoe_cancel_create, cancel_.out());
  interrupt_signal = 0;
  interrupt_target = cancel_.get();
  arm();
}

Interrupt::~Interrupt() {
  disarm();
  interrupt_target = nullptr;
}

int Interrupt::signal_number() const { return interrupt_signal; }

void throw_if_interrupted() {
  if (interrupt_target != nullptr && interrupt_signal != 0) throw Failure(128 + interrupt_signal, "cancelled");
}

void Interrupt::arm() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // Without SA_RESTART, so that a read that waits for the user ends.
  action.sa_flags = manner_ == kOnce ? static_cast<int>(SA_RESETHAND) : 0;
  for (const int number : kSignals) sigaction(number, &action, nullptr);
}

void Interrupt::disarm() {
  for (const int number : kSignals) signal(number, SIG_DFL);
}

Model open_model(const std::string& path, const ComputeFlags& flags, finermoe_cancel* cancel) {
  RuntimeOptions runtime_options;
  call(finermoe_runtime_options_create, runtime_options.out());
  call(finermoe_runtime_options_set_threads, runtime_options.get(), flags.threads);
  const int32_t isa = flags.isa == "portable" ? FINERMOE_ISA_PORTABLE
                      : flags.isa == "avx2"   ? FINERMOE_ISA_AVX2
                      : flags.isa == "avx512" ? FINERMOE_ISA_AVX512
                                              : FINERMOE_ISA_AUTO;
  call(finermoe_runtime_options_set_isa, runtime_options.get(), isa);
  call(finermoe_runtime_options_set_memory_limit, runtime_options.get(), flags.memory_limit);
  call(finermoe_runtime_options_set_profile, runtime_options.get(), flags.profile ? 1 : 0);
  Runtime runtime;
  call(finermoe_runtime_create, runtime_options.get(), runtime.out());
  ModelOptions options;
  call(finermoe_model_options_create, options.out());
  call(finermoe_model_options_set_runtime, options.get(), runtime.get());
  call(finermoe_model_options_set_copy, options.get(), flags.copy ? 1 : 0);
  call(finermoe_model_options_set_lock, options.get(),
       flags.lock == "every-token" ? FINERMOE_LOCK_EVERY_TOKEN
       : flags.lock == "all"       ? FINERMOE_LOCK_ALL
                                   : FINERMOE_LOCK_NONE);
  call(finermoe_model_options_set_expert_budget, options.get(), flags.expert_budget);
  call(finermoe_model_options_set_prefetch, options.get(),
       flags.prefetch == "on"    ? FINERMOE_PREFETCH_ON
       : flags.prefetch == "off" ? FINERMOE_PREFETCH_OFF
                                 : FINERMOE_PREFETCH_AUTO);
  call(finermoe_model_options_set_cancel, options.get(), cancel);
  Model model;
  call(finermoe_model_open, path.c_str(), options.get(), model.out());
  return model;
}

SessionOptions session_options(const ComputeFlags& flags, uint64_t context) {
  SessionOptions options;
  call(finermoe_session_options_create, options.out());
  call(finermoe_session_options_set_context_length, options.get(), flags.context != 0 ? flags.context : context);
  call(finermoe_session_options_set_kv_dtype, options.get(), dtype_code(flags.kv_dtype));
  call(finermoe_session_options_set_precision, options.get(),
       flags.precision == "fast" ? FINERMOE_PRECISION_FAST : FINERMOE_PRECISION_EXACT);
  return options;
}

Session open_session(const Model& model, const ComputeFlags& flags, uint64_t context, Progress* progress) {
  const SessionOptions options = session_options(flags, context);
  if (progress != nullptr) {
    call(finermoe_session_options_set_progress, options.get(), Progress::report, static_cast<void*>(progress));
  }
  Session session;
  call(finermoe_session_create, model.get(), options.get(), session.out());
  return session;
}

Tokenizer find_tokenizer(const Model& model, std::string* fault) {
  Tokenizer tokenizer;
  try {
    call(finermoe_tokenizer_open_model, model.get(), tokenizer.out());
  } catch (const LibraryError& error) {
    if (error.status() != FINERMOE_ERROR_NO_TOKENIZER && fault != nullptr) *fault = error.what();
  }
  return tokenizer;
}

bool unties_head(const std::string& path, const Model& model) {
  Config config;
  call(finermoe_config_open, path.c_str(), config.out());
  const bool is_tied = read_info<finermoe_config_info>(finermoe_config_get_info, config.get()).tied_embeddings != 0;
  return is_tied && model_info(model).tied_embeddings == 0;
}

finermoe_config_info model_info(const Model& model) {
  Config config;
  call(finermoe_config_open_model, model.get(), config.out());
  finermoe_config_info info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  info.model_type = "";  // it belongs to the configuration, which ends here
  return info;
}

uint64_t clamp_context(const Model& model, uint64_t wanted) {
  const uint64_t most = model_info(model).max_positions;
  return wanted < most ? wanted : most;
}

namespace {
constexpr const char* dtype_names[] = {"f32", "f16", "bf16", "q8", "q4"};  // in the order of FINERMOE_DTYPE_…
}

int32_t dtype_code(const std::string& name) {
  const auto place = std::find(std::begin(dtype_names), std::end(dtype_names), name);
  return place == std::end(dtype_names) ? FINERMOE_DTYPE_F32 : static_cast<int32_t>(place - std::begin(dtype_names));
}

const char* dtype_name(int32_t dtype) {
  return dtype >= 0 && dtype <= FINERMOE_DTYPE_Q4 ? dtype_names[dtype] : "unknown";
}

const char* isa_name(int32_t isa) {
  return isa == FINERMOE_ISA_AVX512 ? "avx512" : isa == FINERMOE_ISA_AVX2 ? "avx2" : "portable";
}

bool parse_size(std::string_view text, uint64_t& bytes) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0)) return false;
  std::string unit;
  for (const char* c = end; c != text.data() + text.size(); ++c) {
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  static constexpr std::string_view kPrefixes = "kmgt";
  double factor = 1;
  if (!unit.empty() && kPrefixes.find(unit[0]) != std::string_view::npos) {
    const bool binary = unit.size() > 1 && unit[1] == 'i';
    factor = std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(kPrefixes.find(unit[0]) + 1));
    unit.erase(0, binary ? 2 : 1);
  }
  if (!unit.empty() && unit != "b") return false;
  if (value * factor >= 18446744073709551615.0) return false;
  bytes = static_cast<uint64_t>(value * factor);
  return true;
}

std::string format_fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

namespace {

// value with three digits that count and the largest unit that leaves it at 1 or more.
std::string format_scaled(uint64_t value, const char* const (&units)[5]) {
  double scaled = static_cast<double>(value);
  size_t unit = 0;
  while (scaled >= 999.5 && unit + 1 < 5) {
    scaled /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 ? 0 : scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return format_fixed(scaled, decimals) + units[unit];
}

}  // namespace

std::string format_bytes(uint64_t bytes) { return format_scaled(bytes, {" B", " kB", " MB", " GB", " TB"}); }
std::string format_count(uint64_t count) { return format_scaled(count, {"", " K", " M", " B", " T"}); }

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Json json_float(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, value).ptr;
  double number = 0;
  std::from_chars(text, end, number);
  return number;
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Failure(kError, std::string("cannot write to standard output: ") + std::strerror(errno));
  }
}

namespace {

// Bytes of the character that the text begins with, and whether a terminal shows it as it is.
std::pair<size_t, bool> first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {1, byte(0) >= 0x20 && byte(0) != 0x7f};
  const size_t n = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || n > text.size()) return {1, false};
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {1, false};
  }
  return {n, !(byte(0) == 0xc2 && byte(1) < 0xa0)};  // the controls U+0080 to U+009F
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [n, shown] = first_character(text);
    if (shown) out += text.substr(0, n);
    for (const char c : text.substr(0, shown ? 0 : n)) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : escape;
    }
    text.remove_prefix(n);
  }
  return out;
}

void complain(std::string_view message) { std::fprintf(stderr, "%s\n", printable(message).c_str()); }

}  // namespace tool
