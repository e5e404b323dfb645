// finermoe chat: a conversation, on a terminal or through a pipe.
#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "generation_stats.h"
#include "handles.h"
#include "interrupt.h"
#include "library.h"
#include "line_editor.h"
#include "model_facts.h"
#include "printing.h"
#include "progress.h"
#include "sampling.h"
#include "tokenizer.h"

namespace tool {

namespace {

struct ChatFlags {
  std::string model, system;
  SamplingFlags sampling;
  ComputeFlags compute;
  bool stats = false;
};

void declare(CLI::App& app, ChatFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("--system", flags.system, "the system message")->type_name("TEXT");
  add_stats_flag(app, flags.stats);
  add_sampling(app, flags.sampling);
  flags.compute.precision = "fast";
  add_compute(app, flags.compute);
}

constexpr std::string_view kEdit = "/edit ";
constexpr const char* kHelp =
    "/edit TEXT  put TEXT in place of the last message, and answer that\n"
    "/again      answer the last message once more, with the next seed\n"
    "/reset      forget the conversation\n"
    "/help       this text\n"
    "/quit       end (so does Ctrl-D)\n"
    "Ctrl-C stops an answer, or wipes the line that is being typed.\n";

class Conversation {
 public:
  Conversation(const ChatFlags& flags, const Model& model, Progress& progress)
      : system_(flags.system),
        model_(model),
        stats_(flags.stats),
        tokenizer_(need_tokenizer(model)),
        options_(generation_options(model, flags.sampling, 0)),
        seed_(read_info<finermoe_generation_options_info>(finermoe_generation_options_get_info, options_.get()).seed),
        session_(open_session(model, flags.compute, 0, &progress)) {
    reset();
  }

  void reset() {
    call(finermoe_session_reset, session_.get());
    messages_.clear();
    if (!system_.empty()) messages_.push_back({"system", system_});
  }

  void ask(const std::string& text, finermoe_cancel* cancel) {
    std::vector<Message> messages = messages_;
    messages.push_back({"user", text});
    answer(std::move(messages), seed_, cancel);
  }

  bool has_question() const { return messages_.size() > n_system(); }

  // These two answer the last question again; there must be one.
  void edit(const std::string& text, finermoe_cancel* cancel) {
    std::vector<Message> messages = up_to_last_question();
    messages.back().text = text;
    answer(std::move(messages), seed_, cancel);
  }
  void answer_again(finermoe_cancel* cancel) { answer(up_to_last_question(), last_seed_ + 1, cancel); }

 private:
  struct Message {
    const char* role;
    std::string text;
  };

  std::vector<Message> up_to_last_question() const { return {messages_.begin(), messages_.end() - 1}; }

  size_t n_system() const { return system_.empty() ? 0 : 1; }

  static Chat make_chat(const std::vector<Message>& messages) {
    Chat chat;
    call(finermoe_chat_create, chat.out());
    for (const Message& message : messages) {
      call(finermoe_chat_add, chat.get(), message.role, message.text.data(), message.text.size());
    }
    return chat;
  }

  std::vector<int32_t> render(const std::vector<Message>& messages) const {
    return fetch<int32_t>(finermoe_chat_encode, make_chat(messages).get(), tokenizer_.get(),
                          uint32_t{FINERMOE_TEXT_DEFAULT});
  }

  finermoe_session_info session_info() const {
    return read_info<finermoe_session_info>(finermoe_session_get_info, session_.get());
  }

  // Prints the answer to the last of `messages` as it is generated. The messages and the answer become the
  // conversation, even if the answer was cancelled partway. After any other error the conversation is unchanged.
  void answer(std::vector<Message> messages, uint64_t seed, finermoe_cancel* cancel) {
    const size_t n_before = messages.size();
    call(finermoe_generation_options_set_seed, options_.get(), seed);
    make_room_for_prompt(messages);
    Generation generation;
    call(finermoe_generation_create_chat, session_.get(), options_.get(), make_chat(messages).get(),
         uint32_t{FINERMOE_TEXT_DEFAULT}, generation.out());
    const size_t n_prompt = session_info().length;
    std::string text;
    int32_t finish_reason = FINERMOE_FINISH_NONE;
    try {
      size_t n_forgotten = 0;
      while (finish_reason == FINERMOE_FINISH_NONE) {
        const finermoe_session_info held = session_info();
        if (held.length + 1 >= held.context_length) {
          n_forgotten += forget_oldest(messages, held.length + n_forgotten - n_prompt);
        }
        finermoe_event event{};
        event.struct_size = sizeof event;
        call(finermoe_generation_next, generation.get(), cancel, &event);
        finish_reason = event.finish_reason;
        if (event.text_length == 0) continue;
        text.append(event.text, event.text_length);
        print({event.text, event.text_length});
      }
    } catch (const LibraryError& error) {
      if (error.status() != FINERMOE_ERROR_CANCELLED) throw;
    }
    print("\n");
    if (messages.size() < n_before) {
      complain("finermoe: the context was full: the " + std::to_string(n_before - messages.size()) +
               " oldest messages are forgotten");
    }
    messages.push_back({"assistant", text});
    messages_ = std::move(messages);
    last_seed_ = seed;
    if (finish_reason == FINERMOE_FINISH_CONTEXT_FULL) {
      std::fputs("finermoe: the context is full; /reset begins anew, --context gives more room\n", stderr);
    }
    if (stats_) {
      complain_stats(read_info<finermoe_generation_info>(finermoe_generation_get_info, generation.get()),
                     describe_expert_cache(model_));
    }
  }

  // Makes room if the prompt does not fit, or would leave none for an answer.
  void make_room_for_prompt(std::vector<Message>& messages) {
    const std::vector<int32_t> prompt = render(messages);
    if (prompt.size() + 1 < session_info().context_length) return;
    size_t n_kept = 0;
    call(finermoe_session_keep_prefix, session_.get(), prompt.data(), prompt.size(), &n_kept);
    forget_oldest(messages, 0);
  }

  // Drops the oldest questions with their answers until a quarter of the context is free after the prompt and the
  // n_answer tokens of the answer so far, but never the last question. Returns how many tokens that is.
  size_t forget_oldest(std::vector<Message>& messages, size_t n_answer) {
    const std::vector<int32_t> prompt = render(messages);
    const size_t most = session_info().context_length / 4 * 3;
    std::vector<int32_t> shorter = prompt;
    while (shorter.size() + n_answer > most && messages.size() > n_system() + 1) {
      const auto oldest = messages.begin() + static_cast<ptrdiff_t>(n_system());
      messages.erase(oldest, oldest + 2);
      shorter = render(messages);
    }
    // Each message is rendered on its own, so the shorter prompt is the longer one with a part in the middle removed.
    const size_t n = prompt.size() - shorter.size();
    const auto end = prompt.begin() + static_cast<ptrdiff_t>(shorter.size());
    const size_t begin =
        static_cast<size_t>(std::mismatch(prompt.begin(), end, shorter.begin()).first - prompt.begin());
    if (begin + n <= session_info().length) call(finermoe_session_remove, session_.get(), begin, begin + n);
    return n;
  }

  std::string system_;
  const Model& model_;
  bool stats_;
  Tokenizer tokenizer_;
  GenerationOptions options_;
  uint64_t seed_, last_seed_ = 0;
  Session session_;
  std::vector<Message> messages_;  // the system message, if any; then questions and answers in turn
};

int run_chat(const ChatFlags& flags) {
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, nullptr);
  Conversation conversation(flags, model, progress);
  Interrupt interrupt(Interrupt::kPatient);
  LineEditor lines("> ", interrupt);
  if (lines.interactive()) std::fputs("/help lists the commands, Ctrl-D ends.\n", stderr);
  // An error that an interactive user can correct; a script ends with it.
  const auto refuse = [&](const std::string& why) {
    if (!lines.interactive()) throw Failure(kError, why);
    complain("finermoe: error: " + why);
  };
  while (const std::optional<std::string> line = lines.read()) {
    if (line->empty()) continue;
    if (*line == "/quit") break;
    if (*line == "/help") {
      std::fputs(kHelp, stderr);
      continue;
    }
    if (*line == "/reset") {
      conversation.reset();
      continue;
    }
    const bool edits = *line == "/edit" || line->starts_with(kEdit), answers_again = *line == "/again";
    if (edits && line->size() <= kEdit.size()) {
      refuse("/edit: expected a message behind it");
      continue;
    }
    if ((edits || answers_again) && !conversation.has_question()) {
      refuse(edits ? "/edit: there is no message yet" : "/again: there is no message yet");
      continue;
    }
    if (!edits && !answers_again && line->front() == '/' && lines.interactive()) {
      complain("finermoe: no command " + *line + "; /help lists them");
      continue;
    }
    interrupt.reset();
    try {
      if (edits) {
        conversation.edit(line->substr(kEdit.size()), interrupt.cancel());
      } else if (answers_again) {
        conversation.answer_again(interrupt.cancel());
      } else {
        conversation.ask(*line, interrupt.cancel());
      }
    } catch (const LibraryError& error) {
      if (!lines.interactive()) throw;
      refuse(error.what());
    }
  }
  const int number = last_signal();
  if (number != 0 && number != SIGINT) throw Failure(128 + number, "cancelled");
  return kOk;
}

}  // namespace

void add_chat(CommandLine& line) {
  add_command<ChatFlags>(line, "chat", "talk with a model",
                         "  finermoe chat MODEL\n"
                         "  finermoe chat MODEL --system 'Answer in one sentence.' --temp 0.7\n"
                         "  echo 'Define the noun \"galaxy\".' | finermoe chat MODEL\n",
                         declare, run_chat);
}

}  // namespace tool
