// finermoe quantize: a copy of a checkpoint with 8-bit or 4-bit matrices.
#include "commands.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "library.h"
#include "names.h"
#include "writing.h"

namespace tool {

namespace {

struct QuantizeFlags {
  std::string model, out, dtype = "q8";
  std::vector<std::string> overrides;
  WriterFlags writer;
};

void declare(CLI::App& app, QuantizeFlags& flags) {
  add_model(app, flags.model)->required();
  add_out(app, flags.out);
  add_choice(app, "--dtype", flags.dtype, {"q8", "q4"}, "of the matrices; embeddings and head are q8 (default q8)");
  app.add_option("--override", flags.overrides, "another type (q8, q4, source) for the matrices whose names match")
      ->type_name("PATTERN=TYPE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_writer(app, flags.writer);
}

QuantizeOptions quantize_options(const QuantizeFlags& flags) {
  QuantizeOptions options;
  call(finermoe_quantize_options_create, dtype_code(flags.dtype), options.out());
  for (const std::string& text : flags.overrides) {
    const size_t sign = text.rfind('=');
    const std::string type = sign == text.npos ? "" : text.substr(sign + 1);
    if (type != "q8" && type != "q4" && type != "source")
      throw Failure(kUsage, "--override: expected PATTERN=q8, =q4 or =source, found " + text);
    call(finermoe_quantize_options_add_override, options.get(), text.substr(0, sign).c_str(),
         type == "source" ? -1 : dtype_code(type));
  }
  return options;
}

int run_quantize(const QuantizeFlags& flags) {
  const QuantizeOptions options = quantize_options(flags);
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    call(finermoe_quantize_run, flags.model.c_str(), flags.out.c_str(), options.get(), writer);
  });
}

}  // namespace

void add_quantize(CommandLine& line) {
  add_command<QuantizeFlags>(line, "quantize", "write a copy with matrices of 8 or 4 bits",
                             "  finermoe quantize Qwen2.5-1.5B qwen-q8\n"
                             "  finermoe quantize fine-1.5b fine-q4 --dtype q4 --override '*.self_attn.*=q8'\n",
                             declare, run_quantize);
}

}  // namespace tool
