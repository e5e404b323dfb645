#include "flags.h"

#include <charconv>
#include <cmath>

#include "failure.h"
#include "units.h"

namespace tool {

CLI::Option* add_model(CLI::App& app, std::string& path) {
  return app.add_option("MODEL", path, "model directory, or a single .safetensors file")->type_name("");
}

namespace {

[[noreturn]] void refuse(const std::string& flag, const std::string& expected, const std::string& text) {
  constexpr size_t kShown = 40;
  const std::string found = text.size() <= kShown ? text : text.substr(0, kShown) + "...";
  throw Failure(kUsage, flag.substr(flag.rfind(',') + 1) + ": expected " + expected + ", found " + found);
}

}  // namespace

uint64_t parse_count(const std::string& flag, const std::string& text, Range range) {
  const bool hexadecimal = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  const char* const end = text.data() + text.size();
  uint64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data() + (hexadecimal ? 2 : 0), end, value, hexadecimal ? 16 : 10);
  if (error != std::errc() || stop != end || value < range.least || value > range.most) {
    refuse(flag, "a whole number from " + std::to_string(range.least) + " to " + std::to_string(range.most), text);
  }
  return value;
}

double parse_real(const std::string& flag, const std::string& text) {
  const char* const end = text.data() + text.size();
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) refuse(flag, "a number such as 0.5", text);
  return value;
}

CLI::Option* add_real(CLI::App& app, const std::string& name, std::optional<double>& value,
                      const std::string& description) {
  const auto parse = [&value, name](const std::string& text) { value = parse_real(name, text); };
  return app.add_option_function<std::string>(name, parse, description)->type_name("X");
}

CLI::Option* add_size(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& description) {
  return app
      .add_option_function<std::string>(
          name,
          [&bytes, name](const std::string& text) {
            if (!parse_size(text, bytes) || bytes == 0) refuse(name, "a size such as 24GB", text);
          },
          description)
      ->type_name("SIZE");
}

void add_draft(CLI::App& app, DraftFlags& flags, const std::string& group, const std::string& description) {
  CLI::Option* const model = app.add_option("--draft", flags.model, description)->type_name("MODEL")->group(group);
  add_count(app, "--draft-tokens", flags.n, kDrafts, "up to N of them a pass (default 8)")->needs(model)->group(group);
}

CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& description) {
  return app.add_option(name, value, description)->type_name("")->check(CLI::IsMember(choices));
}

}  // namespace tool
