// finermoe synthesize: a random checkpoint of any shape.
#include "commands.h"
#include "flags.h"
#include "library.h"
#include "names.h"
#include "writing.h"

namespace tool {

namespace {

struct SynthesizeFlags {
  std::string config, out, dtype;
  WriterFlags writer;
};

void declare(CLI::App& app, SynthesizeFlags& flags) {
  app.add_option("CONFIG", flags.config, "a config.json, or a directory that holds one")->type_name("")->required();
  add_out(app, flags.out);
  add_choice(app, "--dtype", flags.dtype, {"f32", "f16", "bf16", "q8", "q4"},
             "storage type of the matrices (default: the configuration's)");
  add_seed(app, flags.writer);
  add_writer(app, flags.writer);
}

int run_synthesize(const SynthesizeFlags& flags) {
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    const int32_t dtype = flags.dtype.empty() ? -1 : dtype_code(flags.dtype);
    call(finermoe_synthesize_run, flags.config.c_str(), flags.out.c_str(), dtype, writer);
  });
}

}  // namespace

void add_synthesize(CommandLine& line) {
  add_command<SynthesizeFlags>(line, "synthesize", "write a random checkpoint of any shape, for tests and benchmarks",
                               "  finermoe synthesize config.json random-model --dtype bf16\n", declare,
                               run_synthesize);
}

}  // namespace tool
