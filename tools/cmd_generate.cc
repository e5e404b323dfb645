// finermoe generate: the completion of a prompt.
#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "generation_stats.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "printing.h"
#include "progress.h"
#include "sampling.h"
#include "tokenizer.h"

namespace tool {

namespace {

constexpr size_t kDefaultTokens = 128;
constexpr size_t kOpenEndedContext = 4096;  // room for a completion that runs until a stop

struct GenerateFlags {
  std::string model, system;
  InputFlags input;
  SamplingFlags sampling;
  ComputeFlags compute;
  size_t top_logprobs = 0;
  bool chat = false, json = false, stats = false;
};

void declare(CLI::App& app, GenerateFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  CLI::Option* chat = app.add_flag("--chat", flags.chat, "the text is a user's message, rendered by the chat template");
  app.add_option("--system", flags.system, "the system message that goes before it")->type_name("TEXT")->needs(chat);
  add_count(app, "--logprobs", flags.top_logprobs, kTokensOrNone, "with --json: the N likeliest tokens at every step");
  app.add_flag("--json", flags.json, "one JSON object instead of the text");
  add_stats_flag(app, flags.stats);
  add_sampling(app, flags.sampling);
  flags.compute.precision = "fast";
  add_compute(app, flags.compute);
}

// The user's message with what comes before it; empty without --chat.
Chat read_chat(const GenerateFlags& flags) {
  Chat chat;
  if (!flags.chat) return chat;
  if (flags.input.holds_ids()) throw Failure(kUsage, "--chat takes a text, not token ids");
  if (flags.input.as.special) throw Failure(kUsage, "--special: with --chat, what a message contains stays text");
  call(finermoe_chat_create, chat.out());
  if (!flags.system.empty()) {
    call(finermoe_chat_add, chat.get(), "system", flags.system.data(), flags.system.size());
  }
  const std::string message = read_text(flags.input);
  call(finermoe_chat_add, chat.get(), "user", message.data(), message.size());
  return chat;
}

std::vector<int32_t> prompt_ids(const GenerateFlags& flags, const Model& model, const Chat& chat) {
  if (!chat) return read_ids(flags.input, model);
  const Tokenizer tokenizer = need_tokenizer(model);
  return fetch<int32_t>(finermoe_chat_encode, chat.get(), tokenizer.get(), uint32_t{FINERMOE_TEXT_DEFAULT});
}

// Large enough for the prompt and the completion, so that a long prompt needs no flag.
uint64_t context_for(const Model& model, size_t n_prompt, size_t max_tokens) {
  const uint64_t room = max_tokens > 0 ? max_tokens : kOpenEndedContext;
  return clamp_context(model, n_prompt + std::min<uint64_t>(room, kMostTokens));
}

Json alternatives(const finermoe_event& event) {
  Json top = Json::array();
  for (size_t i = 0; i < event.n_top; ++i) {
    top.push_back({{"id", event.top_ids[i]}, {"logprob", json_float(event.top_logprobs[i])}});
  }
  return top;
}

const char* finish_name(int32_t finish_reason) {
  switch (finish_reason) {
    case FINERMOE_FINISH_STOP_TOKEN:
      return "stop_token";
    case FINERMOE_FINISH_STOP_STRING:
      return "stop_string";
    case FINERMOE_FINISH_MAX_TOKENS:
      return "max_tokens";
    case FINERMOE_FINISH_CONTEXT_FULL:
      return "context_full";
    default:
      return "none";
  }
}

// The completion, for --json; otherwise the text is printed as it is generated.
struct Completion {
  Json ids = Json::array(), logprobs = Json::array(), top_logprobs = Json::array();
  std::string text;
  int32_t finish_reason = FINERMOE_FINISH_NONE;
};

Completion complete(finermoe_generation* generation, finermoe_cancel* cancel, bool print_text, bool print_ids) {
  Completion completion;
  while (completion.finish_reason == FINERMOE_FINISH_NONE) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    call(finermoe_generation_next, generation, cancel, &event);
    if (event.token >= 0) {
      if (print_ids) print((completion.ids.empty() ? "" : ",") + std::to_string(event.token));
      completion.ids.push_back(event.token);
      completion.logprobs.push_back(json_float(event.logprob));
      completion.top_logprobs.push_back(alternatives(event));
    }
    if (print_text && event.text_length > 0) print({event.text, event.text_length});
    completion.text.append(event.text_length > 0 ? event.text : "", event.text_length);
    completion.finish_reason = event.finish_reason;
  }
  return completion;
}

int run_generate(const GenerateFlags& flags) {
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, nullptr);
  const Chat chat = read_chat(flags);
  const std::vector<int32_t> prompt = prompt_ids(flags, model, chat);
  std::string fault;
  const bool has_text = static_cast<bool>(find_tokenizer(model, &fault));
  if (!fault.empty()) complain("finermoe: token ids instead of text: " + fault);
  const GenerationOptions options = generation_options(model, flags.sampling, kDefaultTokens);
  call(finermoe_generation_options_set_top_logprobs, options.get(), flags.top_logprobs);
  const size_t max_tokens =
      read_info<finermoe_generation_options_info>(finermoe_generation_options_get_info, options.get()).max_tokens;

  const Session session = open_session(model, flags.compute, context_for(model, prompt.size(), max_tokens), &progress);
  Generation generation;
  if (chat) {
    call(finermoe_generation_create_chat, session.get(), options.get(), chat.get(), uint32_t{FINERMOE_TEXT_DEFAULT},
         generation.out());
  } else {
    call(finermoe_generation_create, session.get(), options.get(), prompt.data(), prompt.size(), generation.out());
  }
  const Interrupt interrupt;
  const Completion done =
      complete(generation.get(), interrupt.cancel(), !flags.json && has_text, !flags.json && !has_text);
  if (!flags.json) print("\n");
  const auto info = read_info<finermoe_generation_info>(finermoe_generation_get_info, generation.get());
  const Json expert_cache = describe_expert_cache(model);
  if (flags.stats) complain_stats(info, expert_cache);
  if (!flags.json) return kOk;
  Json json = {{"text", has_text ? Json(done.text) : Json(nullptr)},
               {"finish_reason", finish_name(done.finish_reason)},
               {"prompt_ids", prompt},
               {"ids", done.ids},
               {"logprobs", done.logprobs}};
  if (flags.top_logprobs > 0) json["top_logprobs"] = done.top_logprobs;
  const double rate = decode_rate(info);
  json["prefill_seconds"] = info.prefill_seconds;
  json["decode_tokens_per_second"] = rate > 0 ? Json(rate) : Json(nullptr);
  if (flags.sampling.n_lookup || !flags.sampling.draft.model.empty()) {
    json["drafted"] = info.n_drafted;
    json["accepted"] = info.n_accepted;
  }
  if (!expert_cache.is_null()) json["expert_cache"] = expert_cache;
  print(dump(json));
  return kOk;
}

}  // namespace

void add_generate(CommandLine& line) {
  add_command<GenerateFlags>(line, "generate", "print the completion of a prompt",
                             "  finermoe generate MODEL -p 'In the beginning'\n"
                             "  finermoe generate MODEL --chat -p 'Define the noun \"lighthouse\".'\n"
                             "  finermoe generate MODEL --temp 0.8 --top-p 0.95 --seed 7 -n 200 < prompt.txt\n"
                             "  finermoe generate MODEL --ids 1,2,3 --json --logprobs 5\n",
                             declare, run_generate);
}

}  // namespace tool
