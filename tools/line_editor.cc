#include "line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <signal.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>

namespace tool {

namespace {

constexpr int kHistorySize = 1000;

const char* show_prompt(EditLine* editor) {
  void* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  return static_cast<LineEditor*>(self)->prompt();
}

}  // namespace

LineEditor::LineEditor(std::string prompt, Interrupt& interrupt) : prompt_(std::move(prompt)), interrupt_(interrupt) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) return;
  // Opened separately: O_NONBLOCK on standard input would affect others who share it.
  const char* terminal = ttyname(STDIN_FILENO);
  if (terminal != nullptr) input_ = open(terminal, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (input_ < 0) input_ = STDIN_FILENO;
  // The editor decodes characters by the locale; here text is always UTF-8.
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  editor_ = el_init("finermoe", stdin, stdout, stderr);
  if (editor_ == nullptr) return;
  history_ = history_init();
  HistEvent event;
  if (history_ != nullptr) history(history_, &event, H_SETSIZE, kHistorySize);
  el_set(editor_, EL_CLIENTDATA, this);
  el_set(editor_, EL_PROMPT, show_prompt);
  el_set(editor_, EL_EDITOR, "emacs");
  if (history_ != nullptr) el_set(editor_, EL_HIST, history, history_);
  el_set(editor_, EL_GETCFN, read_character);
  el_source(editor_, nullptr);  // the user's own ~/.editrc
}

LineEditor::~LineEditor() {
  if (editor_ != nullptr) el_end(editor_);
  if (history_ != nullptr) history_end(history_);
  if (input_ > STDIN_FILENO) close(input_);
}

// The editor's own reader resumes after a signal; this one abandons the line, so that Ctrl-C clears it. Signals are
// unblocked only while it waits, so that none can be missed just before. The read itself does not block: on Ctrl-C the
// terminal discards pending input, even input that it has just announced.
int LineEditor::read_character(EditLine* editor, wchar_t* character) {
  void* data = nullptr;
  el_get(editor, EL_CLIENTDATA, &data);
  const LineEditor* self = static_cast<LineEditor*>(data);
  std::mbstate_t state{};
  while (true) {
    fd_set input;
    FD_ZERO(&input);
    FD_SET(self->input_, &input);
    if (pselect(self->input_ + 1, &input, nullptr, nullptr, nullptr, &self->usual_signals_) < 0) {
      if (errno == EINTR && !self->interrupt_.requested()) continue;
      return -1;
    }
    char byte = 0;
    const ssize_t n = ::read(self->input_, &byte, 1);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) return static_cast<int>(n);
    const size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // more bytes of this character will follow
    if (length != static_cast<size_t>(-1)) return 1;
    state = {};  // not UTF-8: dropped
  }
}

// Between two lines, while an answer is printed, keys are kept for the next line: they are not echoed into the answer,
// and Ctrl-D keeps its meaning. The editor sets and restores the terminal modes itself.
void LineEditor::hide_keys() const {
  termios modes;
  if (tcgetattr(STDIN_FILENO, &modes) != 0) return;
  modes.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

bool LineEditor::asked_to_end() const { return last_signal() != 0 && last_signal() != SIGINT; }

std::optional<std::string> LineEditor::read() {
  if (editor_ == nullptr) {
    std::string line;
    int c = 0;
    interrupt_.disarm();  // not interactive: a signal while it waits is meant for the program
    while ((c = std::getc(stdin)) != EOF && c != '\n') line += static_cast<char>(c);
    interrupt_.arm();
    if (c == EOF && line.empty()) return std::nullopt;
    return line;
  }
  sigset_t held;
  sigemptyset(&held);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held, number);
  sigprocmask(SIG_BLOCK, &held, &usual_signals_);
  std::optional<std::string> line = edit();
  sigprocmask(SIG_SETMASK, &usual_signals_, nullptr);
  return line;
}

std::optional<std::string> LineEditor::edit() {
  while (!asked_to_end()) {
    interrupt_.reset();
    int length = 0;
    const char* text = el_gets(editor_, &length);
    hide_keys();
    if (text == nullptr || length <= 0) {
      std::fputs("\n", stdout);
      if (!interrupt_.requested()) return std::nullopt;
      el_reset(editor_);
      continue;
    }
    std::string line(text, static_cast<size_t>(length));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    HistEvent event;
    if (history_ != nullptr && !line.empty()) history(history_, &event, H_ENTER, line.c_str());
    return line;
  }
  return std::nullopt;
}

}  // namespace tool
