// finermoe score: the log-probabilities of continuations, for evaluation harnesses.
#include <algorithm>
#include <numeric>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "printing.h"
#include "progress.h"
#include "tokenizer.h"

namespace tool {

namespace {

struct ScoreFlags {
  std::string model, file = "-";
  TextFlags as;
  ComputeFlags compute;
  bool tokens = false, stats = false;
};

void declare(CLI::App& app, ScoreFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("--file", flags.file,
                 "a file with {\"context\":\"...\",\"continuation\":\"...\"} a line (default: standard input)")
      ->type_name("FILE");
  app.add_flag("--tokens", flags.tokens, "the ids of the continuation and the log-probability of each too");
  app.add_flag("--stats", flags.stats, "how many tokens were computed and how many shared, on standard error");
  add_text_flags(app, flags.as);
  add_compute(app, flags.compute);
}

struct Request {
  std::string name;          // "line 3"
  std::vector<int32_t> ids;  // the context followed by the continuation
  size_t n_context = 0;
};

// Moves white space at the end of a context to the continuation: tokenizers join a space with the word after it.
void move_white_space(std::string& context, std::string& continuation) {
  const size_t end = context.find_last_not_of(" \t\n\r\f\v") + 1;
  continuation.insert(0, context, end);
  context.resize(end);
}

class Reader {
 public:
  Reader(const ScoreFlags& flags, const Model& model) : flags_(flags), model_(model) {}

  std::vector<Request> read() {
    std::vector<Request> requests;
    for_each_line(flags_.file, [&](const std::string& line, size_t number) {
      if (line.empty()) return;
      Request request{"line " + std::to_string(number), {}, 0};
      fill(request, parse_line(line, number));
      if (request.ids.size() == request.n_context) {
        throw Failure(kError, request.name + ": the continuation adds no token to its context");
      }
      if (request.ids.size() == 1)
        throw Failure(kError, request.name + ": one token without a context has no probability");
      requests.push_back(std::move(request));
    });
    return requests;
  }

 private:
  void fill(Request& request, const nlohmann::json& json) {
    const auto both = [&](const char* context, const char* continuation) {
      return json.is_object() && json.contains(context) && json.contains(continuation);
    };
    if (both("context", "continuation") && json["context"].is_string() && json["continuation"].is_string()) {
      return fill_from_text(request, json["context"], json["continuation"]);
    }
    if (both("context_ids", "continuation_ids")) {
      request.ids = json_ids(json["context_ids"], request.name);
      if (request.ids.empty()) request.ids = beginning();
      request.n_context = request.ids.size();
      const std::vector<int32_t> continuation = json_ids(json["continuation_ids"], request.name);
      request.ids.insert(request.ids.end(), continuation.begin(), continuation.end());
      return;
    }
    throw Failure(kError, request.name +
                              ": expected {\"context\":\"...\",\"continuation\":\"...\"}, or \"context_ids\" and "
                              "\"continuation_ids\"");
  }

  void fill_from_text(Request& request, std::string context, std::string continuation) {
    if (!tokenizer_) tokenizer_ = need_tokenizer(model_);
    move_white_space(context, continuation);
    if (!context.empty()) {
      request.ids = encode(tokenizer_, context, flags_.as);
      request.n_context = request.ids.size();
      const std::vector<int32_t> whole = encode(tokenizer_, context + continuation, flags_.as);
      const auto behind = static_cast<ptrdiff_t>(std::min(request.n_context, whole.size()));
      request.ids.insert(request.ids.end(), whole.begin() + behind, whole.end());
      return;
    }
    request.ids = beginning();
    request.n_context = request.ids.size();
    const std::vector<int32_t> ids = encode(tokenizer_, continuation, {flags_.as.special, true});
    request.ids.insert(request.ids.end(), ids.begin(), ids.end());
  }

  // Stands in for an empty context: BOS, or else EOS; empty if the model has neither.
  std::vector<int32_t> beginning() const {
    const Tokenizer tokenizer = find_tokenizer(model_);
    if (!tokenizer) return {};
    const auto info = read_info<finermoe_tokenizer_info>(finermoe_tokenizer_get_info, tokenizer.get());
    if (info.bos_id < 0 && info.eos_id < 0) return {};
    return {info.bos_id >= 0 ? info.bos_id : info.eos_id};
  }

  const ScoreFlags& flags_;
  const Model& model_;
  Tokenizer tokenizer_;
};

// Truncates contexts from the left so that they fit. Returns how many were truncated.
size_t cut_contexts(std::vector<Request>& requests, size_t n_tokens) {
  size_t n_cut = 0;
  for (Request& request : requests) {
    if (request.ids.size() <= n_tokens) continue;
    const size_t n = request.ids.size() - n_tokens;
    if (n >= request.n_context) {
      throw Failure(
          kError, request.name + ": the continuation has " + std::to_string(request.ids.size() - request.n_context) +
                      " tokens, which with one before them do not fit into the context of " + std::to_string(n_tokens));
    }
    request.ids.erase(request.ids.begin(), request.ids.begin() + static_cast<ptrdiff_t>(n));
    request.n_context -= n;
    ++n_cut;
  }
  return n_cut;
}

Json score(const Session& session, const Request& request, bool tokens, finermoe_cancel* cancel, size_t& n_kept) {
  const int32_t* const ids = request.ids.data();
  const size_t n_context = request.n_context, n = request.ids.size() - n_context;
  call(finermoe_session_keep_prefix, session.get(), ids, n_context, &n_kept);
  call(finermoe_session_append, session.get(), ids + n_kept, n_context - n_kept, FINERMOE_LOGITS_NONE, cancel);
  std::vector<float> logprobs(n);
  std::vector<int32_t> likeliest(n);
  call(finermoe_session_score, session.get(), ids + n_context, n, cancel, logprobs.data(), likeliest.data(), n,
       nullptr);

  double sum = 0;
  bool greedy = true;
  Json each = Json::array();
  const size_t first = n_context > 0 ? 0 : 1;  // the first token of a session has no probability
  for (size_t i = 0; i < n; ++i) {
    each.push_back(json_float(logprobs[i]));
    if (i < first) continue;
    sum += static_cast<double>(logprobs[i]);
    greedy = greedy && likeliest[i] == ids[n_context + i];
  }
  Json json = {{"logprob", sum}, {"greedy", greedy}, {"tokens", n - first}};
  if (tokens) {
    json["ids"] = std::vector<int32_t>(ids + n_context, ids + n_context + n);
    json["logprobs"] = std::move(each);
  }
  return json;
}

int run_score(const ScoreFlags& flags) {
  Interrupt interrupt;
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  std::vector<Request> requests = Reader(flags, model).read();
  if (requests.empty()) throw Failure(kError, "there is no request to score");
  size_t longest = 0;
  for (const Request& request : requests) longest = std::max(longest, request.ids.size());
  const Session session = open_session(model, flags.compute, clamp_context(model, longest));
  const size_t n_cut =
      cut_contexts(requests, read_info<finermoe_session_info>(finermoe_session_get_info, session.get()).context_length);
  if (n_cut > 0) {
    complain("finermoe: requests longer than the context, whose beginnings are left out: " + std::to_string(n_cut));
  }

  // Sorted by ids, each request shares the longest possible prefix with the previous one, which the session still
  // holds.
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return requests[a].ids < requests[b].ids; });
  std::vector<std::string> results(requests.size());
  size_t n_tokens = 0, n_shared = 0, n_done = 0, n_without_first = 0;
  for (const Request& request : requests) {
    n_tokens += request.ids.size();
    if (request.n_context == 0) ++n_without_first;
  }
  for (const size_t i : order) {
    size_t n_kept = 0;
    results[i] = dump(score(session, requests[i], flags.tokens, interrupt.cancel(), n_kept));
    n_shared += n_kept;
    progress.show("score", n_done += requests[i].ids.size(), n_tokens);
  }
  for (const std::string& result : results) print(result);
  if (n_without_first > 0) {
    complain("finermoe: requests whose first token has no probability and is left out: " +
             std::to_string(n_without_first) + "; their context is empty, and the model names no token for that");
  }
  if (flags.stats) {
    complain("finermoe: requests: " + std::to_string(requests.size()) +
             "; tokens: " + std::to_string(n_tokens - n_shared) + " computed, " + std::to_string(n_shared) + " shared");
  }
  return kOk;
}

}  // namespace

void add_score(CommandLine& line) {
  add_command<ScoreFlags>(
      line, "score", "how likely continuations of contexts are, as JSON, for evaluation harnesses",
      "  finermoe score MODEL --file requests.jsonl > results.jsonl\n"
      "  echo '{\"context\":\"A tower with a\",\"continuation\":\" light\"}' | finermoe score MODEL\n",
      declare, run_score);
}

}  // namespace tool
