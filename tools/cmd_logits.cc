// finermoe logits: the logits of every token.
#include <algorithm>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "npy.h"
#include "output_file.h"
#include "progress.h"

namespace tool {

namespace {

constexpr size_t kRowsAtOnce = 64;  // rows of logits held at a time: a row is as wide as the vocabulary

struct LogitsFlags {
  std::string model, out;
  InputFlags input;
  ComputeFlags compute;
};

void declare(CLI::App& app, LogitsFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  app.add_option("--out", flags.out, "the .npy file to write: float32 [tokens, vocab]")->type_name("FILE")->required();
  add_compute(app, flags.compute);
}

int run_logits(const LogitsFlags& flags) {
  const Interrupt interrupt;
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const std::vector<int32_t> ids = read_ids(flags.input, model);
  const Session session = open_session(model, flags.compute, ids.size());
  std::vector<float> row(model_info(model).vocab_size);
  OutputFile file(flags.out);
  const std::string header = npy_header_float32(ids.size(), row.size());
  file.write(header.data(), header.size());
  for (size_t begin = 0; begin < ids.size(); begin += kRowsAtOnce) {
    const size_t n = std::min(kRowsAtOnce, ids.size() - begin);
    call(finermoe_session_append, session.get(), ids.data() + begin, n, FINERMOE_LOGITS_ALL, interrupt.cancel());
    for (size_t i = 0; i < n; ++i) {
      call(finermoe_session_logits, session.get(), i, row.data(), row.size(), nullptr);
      file.write(row.data(), row.size() * sizeof(float));
    }
    progress.show("logits", begin + n, ids.size());
  }
  file.finish();
  return kOk;
}

}  // namespace

void add_logits(CommandLine& line) {
  add_command<LogitsFlags>(line, "logits", "the logits of every token, as a .npy file",
                           "  finermoe logits MODEL --ids 1,2,3 --out logits.npy\n"
                           "  finermoe logits MODEL --file text.txt --out logits.npy\n",
                           declare, run_logits);
}

}  // namespace tool
