#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>

namespace finermoe {
namespace {

#include "text/unicode_classes.inc"

constexpr size_t kBlock = 64;  // code points that share an entry of kClassBlock
constexpr uint8_t kFlags = kNfcReplaces | kNfcJoins;

bool is_letter_or_number(uint8_t code_class) { return code_class >= '0' && code_class <= '6'; }

struct Scan {
  size_t size = 0;       // bytes of the window
  bool changed = false;  // whether invalid bytes or NFC may change the text
};

// Finds the window's end and the classes up to there. Words of the pre-tokenizer never cross the end of a run of
// letters and numbers, nor depend on anything before it.
Scan scan_window(std::string_view text, size_t window, bool nfc, std::string& classes) {
  Scan scan;
  uint8_t previous = kFlags;
  classes.resize(std::min(text.size(), window + 4));
  size_t n = 0;
  while (scan.size < text.size()) {
    Decoded next = decode_utf8(text, scan.size);
    uint8_t next_class = unicode_class(next.code_point);
    bool cut = is_letter_or_number(previous) && !is_letter_or_number(next_class);
    if (scan.size >= window && cut && !(next_class & kFlags)) break;
    if (!next.valid || (nfc && (next_class & kFlags))) scan.changed = true;
    if (n == classes.size()) classes.resize(n * 2 + 64);
    classes[n++] = static_cast<char>(next_class & ~kFlags);
    previous = next_class;
    scan.size += next.size;
  }
  classes.resize(n);
  return scan;
}

struct Mark {
  uint32_t code_point;
  utf8proc_propval_t combining_class;
};

// The canonical composition of a sequence that begins at a boundary. utf8proc's canonical ordering takes quadratic time
// on long runs of combining marks, so they are sorted here.
void compose(const std::vector<int32_t>& source, std::vector<int32_t>& out) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  std::vector<Mark> marks;
  out.clear();
  auto flush = [&] {
    std::stable_sort(marks.begin(), marks.end(),
                     [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    for (const Mark& mark : marks) out.push_back(static_cast<int32_t>(mark.code_point));
    marks.clear();
  };
  for (int32_t code_point : source) {
    int32_t parts[8];  // no canonical decomposition is longer than 4
    int boundary = 0;
    auto n = utf8proc_decompose_char(code_point, parts, std::size(parts),
                                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary);
    if (n < 0 || n > static_cast<utf8proc_ssize_t>(std::size(parts))) n = 1, parts[0] = code_point;
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
      // utf8proc may know combining marks that Hugging Face's Unicode version takes for letters or symbols.
      bool joins = unicode_class(static_cast<uint32_t>(parts[i])) & kNfcJoins;
      auto combining_class = joins ? utf8proc_get_property(parts[i])->combining_class : utf8proc_propval_t{0};
      if (combining_class == 0) flush();
      marks.push_back({static_cast<uint32_t>(parts[i]), combining_class});
      if (combining_class == 0) flush();
    }
  }
  flush();
  auto n = utf8proc_normalize_utf32(out.data(), static_cast<utf8proc_ssize_t>(out.size()), kOptions);
  if (n >= 0) out.resize(static_cast<size_t>(n));
}

// Normalizes a whole number of segments. A segment is the unit that NFC works on: a code point and those after it that
// may combine with it. In a segment that NFC changed, every byte maps to the whole original segment.
class Normalizer {
 public:
  Normalizer(bool nfc, Normalized& into) : nfc_(nfc), into_(into) {
    into_.storage.clear();
    into_.begin.clear();
    into_.end.clear();
  }

  void run(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      const size_t start = at;
      uint8_t flags = 0;
      segment_.clear();
      characters_.clear();
      do {
        Decoded next = decode_utf8(text, at);
        uint8_t next_class = unicode_class(next.code_point);
        if (!segment_.empty() && !(next_class & kNfcJoins)) break;
        flags |= next_class;
        segment_.push_back(static_cast<int32_t>(next.code_point));
        characters_.push_back(next);
        at += next.size;
      } while (at < text.size());
      if (nfc_ && (segment_.size() > 1 || flags & kNfcReplaces)) {
        compose(segment_, composed_);
        if (composed_ != segment_) {
          append_changed(start, at);
          continue;
        }
      }
      append_unchanged(text, start);
    }
  }

 private:
  void append_changed(size_t start, size_t stop) {
    for (int32_t code_point : composed_) append_utf8(static_cast<uint32_t>(code_point), into_.storage);
    into_.begin.resize(into_.storage.size(), static_cast<uint32_t>(start));
    into_.end.resize(into_.storage.size(), static_cast<uint32_t>(stop));
  }

  void append_unchanged(std::string_view text, size_t at) {
    for (const Decoded& character : characters_) {
      if (character.valid) {
        into_.storage.append(text, at, character.size);
        for (size_t i = at; i < at + character.size; ++i) {
          into_.begin.push_back(static_cast<uint32_t>(i));
          into_.end.push_back(static_cast<uint32_t>(i + 1));
        }
      } else {
        append_utf8(kReplacement, into_.storage);
        into_.begin.resize(into_.storage.size(), static_cast<uint32_t>(at));
        into_.end.resize(into_.storage.size(), static_cast<uint32_t>(at + character.size));
      }
      at += character.size;
    }
  }

  const bool nfc_;
  Normalized& into_;
  std::vector<int32_t> segment_, composed_;
  std::vector<Decoded> characters_;  // of the segment
};

}  // namespace

uint8_t unicode_class(uint32_t code_point) {
  size_t block = code_point / kBlock;
  return block < std::size(kClassBlock) ? kClasses[kClassBlock[block] * kBlock + code_point % kBlock] : uint8_t{'.'};
}

bool is_space(uint32_t code_point) {
  const uint8_t found = unicode_class(code_point) & ~kFlags;
  return found == ' ' || found == '8' || found == '9';
}

bool is_word(uint32_t code_point) {
  const uint8_t found = unicode_class(code_point) & ~kFlags;
  return found >= '/' && found <= '5';
}

void classify(std::string_view text, std::string& classes) {
  classes.resize(text.size());
  size_t n = 0;
  for (size_t at = 0; at < text.size(); ++n) {
    Decoded next = decode_utf8(text, at);
    classes[n] = static_cast<char>(unicode_class(next.code_point) & ~kFlags);
    at += next.size;
  }
  classes.resize(n);
}

size_t normalize_window(std::string_view text, size_t window, bool nfc, Normalized& into) {
  Scan scan = scan_window(text, window, nfc, into.classes);
  Normalizer normalizer(nfc, into);
  into.text = text.substr(0, scan.size);
  if (scan.changed) {
    normalizer.run(into.text);
    into.text = into.storage;
    classify(into.text, into.classes);
  }
  return scan.size;
}

std::string normalize_nfc(std::string_view text) {
  Normalized normalized;
  Normalizer(true, normalized).run(text);
  return std::move(normalized.storage);
}

}  // namespace finermoe
