// Decoding with drafts from the text and without, in turns: lookup-speed MODEL [N_DRAFT [PRECISION [RUNS]]]
// (default: 8, 1 for fast, 3), as JSON.
//
// No model is needed that edits pages: the text is given, and each token counts as the one that the sampler chose. It
// is a page of lines of tokens, and then the page once more with an edit in every second line: tokens that are
// replaced, left out or put in. Two texts have nothing to draft from: tokens without repeats, and two tokens that come
// again and again, each time before another third one, so that every draft is wrong. Everything but the sampler is what
// a request does: the lookup, its width, the passes and their logits.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "base/stopwatch.h"
#include "cpu/cpu_device.h"
#include "runtime/lookup.h"
#include "runtime/step.h"

namespace finermoe {
namespace {

constexpr size_t n_lines = 16, line_length = 16;

uint32_t draw() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state >> 33);
}

struct Text {
  const char* name;
  std::vector<int32_t> prompt, rest;
};

Text edited_page(uint64_t vocab) {
  Text text{"edited page", {}, {}};
  for (size_t i = 0; i < n_lines * line_length; i++) text.prompt.push_back(static_cast<int32_t>(draw() % vocab));
  for (size_t line = 0; line < n_lines; line++) {
    const auto begin = text.prompt.begin() + static_cast<ptrdiff_t>(line * line_length);
    std::vector<int32_t> copy(begin, begin + line_length);
    const auto at = copy.begin() + draw() % (line_length - 4);
    if (line % 4 == 1) std::generate(at, at + 2, [&] { return static_cast<int32_t>(draw() % vocab); });
    if (line % 8 == 3) copy.erase(at, at + 3);
    if (line % 8 == 7) copy.insert(at, {static_cast<int32_t>(draw() % vocab), static_cast<int32_t>(draw() % vocab)});
    text.rest.insert(text.rest.end(), copy.begin(), copy.end());
  }
  return text;
}

Text without_repeats(uint64_t vocab) {
  Text text{"no repeats", {}, {}};
  for (size_t i = 0; i < 256; i++) text.prompt.push_back(static_cast<int32_t>(i * 2 % vocab));
  for (size_t i = 0; i < 128; i++) text.rest.push_back(static_cast<int32_t>((i * 2 + 1) % vocab));
  return text;
}

Text misleading_repeats(uint64_t vocab) {
  Text text{"misleading repeats", {}, {}};
  for (size_t i = 0; i < 128; i++) {
    std::vector<int32_t>& part = i < 86 ? text.prompt : text.rest;
    const auto third = static_cast<int32_t>((2 + i) % vocab);
    part.insert(part.end(), {0, 1, third});
  }
  return text;
}

struct Run {
  double seconds = 0;
  size_t n_passes = 0, n_drafted = 0;
};

// The passes that give the rest of a text behind its prompt.
Result<Run> decode(LoadedModel& model, Session& session, const Text& text, size_t n_draft, float* logits) {
  FM_TRY(session.truncate(0));
  FM_TRY(session.append(text.prompt, {}, nullptr));
  const StopSignals stop = session.stop_signals(nullptr);
  FM_ASSIGN(auto lookup, Lookup::make(model.runtime()->account(), session.capacity(), std::max<size_t>(n_draft, 1)));
  Run run;
  const Stopwatch watch;
  for (size_t i = 0; i < text.rest.size(); i++) {
    const uint64_t before = session.revision();
    if (i > 0) lookup.chose(text.rest[i]);
    session.reserve(1);
    session.hold({&text.rest[i], 1});
    lookup.grew(before, session.revision());
    if (session.adopt_ahead(session.step_index())) continue;
    const size_t limit = std::min(n_draft, text.rest.size() - i - 1);
    const auto drafts =
        limit == 0 ? std::span<const int32_t>() : lookup.draft(session.tokens(), session.revision(), limit);
    StepPart part{
        .session = &session, .n = 1, .rows = std::span(rows_of_drafts).first(1 + drafts.size()), .drafts = drafts};
    FM_TRY(run_step(model, {&part, 1}, {.logits = logits}, stop));
    run.n_passes++;
    run.n_drafted += drafts.size();
  }
  run.seconds = watch.seconds();
  return run;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status measure(const char* path, size_t n_draft, Precision precision, size_t n_runs) {
  RuntimeOptions options;
  FM_ASSIGN(options.isa, acquire_isa(options.isa));
  FM_ASSIGN(auto runtime, Runtime::create(options, {cpu_device()}));
  FM_ASSIGN(auto checkpoint, Checkpoint::open(path, {false, runtime->account(), {}}));
  FM_ASSIGN(auto model, LoadedModel::load(std::move(checkpoint), runtime, {}, {}));
  SessionOptions of_session;
  of_session.precision = precision;
  of_session.context_length = 2 * n_lines * line_length + 64;
  FM_ASSIGN(auto session, Session::create(model, of_session));
  const uint64_t vocab = model->config().vocab_size;
  std::vector<float> logits((most_drafts + 1) * vocab);
  for (const Text& text : {edited_page(vocab), without_repeats(vocab), misleading_repeats(vocab)}) {
    std::vector<double> with, without;
    Run last;
    for (size_t run = 0; run <= n_runs; run++) {  // the first one does not count
      FM_ASSIGN(const Run plain, decode(*model, *session, text, 0, logits.data()));
      FM_ASSIGN(last, decode(*model, *session, text, n_draft, logits.data()));
      if (run == 0) continue;
      without.push_back(plain.seconds);
      with.push_back(last.seconds);
    }
    std::printf(
        "{\"text\": \"%s\", \"tokens\": %zu, \"passes\": %zu, \"drafted\": %zu, \"seconds\": %.4f, "
        "\"seconds_without\": %.4f, \"times\": %.3f}\n",
        text.name, text.rest.size(), last.n_passes, last.n_drafted, median(with), median(without),
        median(without) / median(with));
  }
  return {};
}

}  // namespace
}  // namespace finermoe

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [N_DRAFT [PRECISION [RUNS]]]\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i, int otherwise) {
    return static_cast<size_t>(argc > i ? std::max(std::atoi(argv[i]), 0) : otherwise);
  };
  const auto precision = number(3, 1) == 0 ? finermoe::Precision::exact : finermoe::Precision::fast;
  const auto status = finermoe::measure(argv[1], std::min(number(2, 8), finermoe::most_drafts), precision,
                                        std::max<size_t>(number(4, 3), 1));
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
