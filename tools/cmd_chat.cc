// finermoe chat: a conversation, at a terminal or through a pipe.
#include <signal.h>

#include <cstdio>

#include "flags.h"
#include "line_editor.h"
#include "progress.h"
#include "sampling.h"

namespace tool {

namespace {

struct ChatFlags {
  std::string model, system;
  SamplingFlags sampling;
  ComputeFlags compute;
};

void declare(CLI::App& app, ChatFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("--system", flags.system, "the system message")->type_name("TEXT");
  add_sampling(app, flags.sampling);
  flags.compute.precision = "fast";
  add_compute(app, flags.compute);
}

constexpr const char* kHelp =
    "/reset  forget the conversation\n"
    "/help   this text\n"
    "/quit   end (so does Ctrl-D)\n"
    "Ctrl-C stops an answer, or wipes the line that is being typed.\n";

class Conversation {
 public:
  Conversation(const ChatFlags& flags, const Model& model, Progress& progress)
      : system_(flags.system),
        options_(generation_options(model, flags.sampling, 0)),
        session_(open_session(model, flags.compute, 0, &progress)) {
    reset();
  }

  void reset() {
    call(finermoe_session_reset, session_.get());
    messages_.clear();
    if (!system_.empty()) messages_.push_back({"system", system_});
  }

  // Prints the answer as it comes. A cancelled answer stays in the conversation as far as it came.
  void answer(const std::string& message, finermoe_cancel* cancel) {
    messages_.push_back({"user", message});
    std::string text;
    int32_t finish_reason = FINERMOE_FINISH_NONE;
    try {
      const Generation generation = begin();
      while (finish_reason == FINERMOE_FINISH_NONE) {
        finermoe_event event{};
        event.struct_size = sizeof event;
        call(finermoe_generation_next, generation.get(), cancel, &event);
        finish_reason = event.finish_reason;
        if (event.text_length == 0) continue;
        text.append(event.text, event.text_length);
        print({event.text, event.text_length});
      }
    } catch (const LibraryError& error) {
      if (error.status() != FINERMOE_ERROR_CANCELLED) {
        messages_.pop_back();
        throw;
      }
    }
    print("\n");
    messages_.push_back({"assistant", text});
    if (finish_reason == FINERMOE_FINISH_CONTEXT_FULL) {
      std::fputs("finermoe: the context is full; /reset begins anew, --context gives more room\n", stderr);
    }
  }

 private:
  struct Message {
    const char* role;
    std::string text;
  };

  Generation begin() const {
    Chat chat;
    call(finermoe_chat_create, chat.out());
    for (const Message& message : messages_) {
      call(finermoe_chat_add, chat.get(), message.role, message.text.data(), message.text.size());
    }
    Generation generation;
    call(finermoe_generation_create_chat, session_.get(), options_.get(), chat.get(), 0u, generation.out());
    return generation;
  }

  std::string system_;
  GenerationOptions options_;
  Session session_;
  std::vector<Message> messages_;
};

int run_chat(const ChatFlags& flags) {
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, nullptr);
  Conversation conversation(flags, model, progress);
  Interrupt interrupt(Interrupt::kPatient);
  LineEditor lines("> ", interrupt);
  if (lines.interactive()) std::fputs("/help lists the commands, Ctrl-D ends.\n", stderr);
  while (const std::optional<std::string> line = lines.read()) {
    if (line->empty()) continue;
    if (*line == "/quit") break;
    if (*line == "/help") {
      std::fputs(kHelp, stderr);
    } else if (*line == "/reset") {
      conversation.reset();
    } else if (line->front() == '/' && lines.interactive()) {
      complain("finermoe: no command " + *line + "; /help lists them");
    } else {
      interrupt.reset();
      try {
        conversation.answer(*line, interrupt.cancel());
      } catch (const LibraryError& error) {
        if (!lines.interactive()) throw;
        complain(std::string("finermoe: error: ") + error.what());
      }
    }
  }
  const int number = interrupt.signal_number();
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
