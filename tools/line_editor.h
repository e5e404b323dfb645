// Lines typed on a terminal, with editing and an in-memory history; or lines from a pipe.
#pragma once

#include <signal.h>

#include <optional>
#include <string>

typedef struct editline EditLine;
typedef struct history History;
#include "interrupt.h"

namespace tool {

class LineEditor {
 public:
  // interrupt: Ctrl-C clears the line being typed.
  LineEditor(std::string prompt, Interrupt& interrupt);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // The next line without the line ending; nullopt at the end of input, or if a signal other than Ctrl-C asks to quit.
  std::optional<std::string> read();
  bool interactive() const { return editor_ != nullptr; }
  const char* prompt() const { return prompt_.c_str(); }

 private:
  std::optional<std::string> edit();
  void hide_keys() const;
  bool asked_to_end() const;
  static int read_character(EditLine* editor, wchar_t* character);

  std::string prompt_;
  Interrupt& interrupt_;
  sigset_t usual_signals_{};  // those blocked outside the editor
  int input_ = -1;            // the terminal, opened non-blocking
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

}  // namespace tool
