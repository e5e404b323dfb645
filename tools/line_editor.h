// Lines typed by a person, with editing and a history in memory; or lines from a pipe.
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
  // interrupt: Ctrl-C while a line is typed wipes that line.
  LineEditor(std::string prompt, Interrupt& interrupt);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // The next line without its end; nothing at the end of the input, or where a signal other than Ctrl-C's asks to end.
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
  sigset_t usual_signals_{};  // those blocked outside of the editor
  int input_ = -1;            // the terminal, of which reading does not wait
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

}  // namespace tool
