#include "base/foreign_file.h"

namespace finermoe {
namespace {

constexpr ForeignFile git_lfs = {"a Git LFS pointer and not the file itself", "fetch the file with `git lfs pull`"};
constexpr ForeignFile gguf = {"a GGUF file", "use the checkpoint that it was made from, in safetensors"};
constexpr ForeignFile zip = {"a zip archive, as PyTorch saves pickled weights",
                             "save the model as safetensors (save_pretrained of transformers does)"};
constexpr ForeignFile pickle = {"a Python pickle, as PyTorch saved weights",
                                "save the model as safetensors (save_pretrained of transformers does)"};
constexpr ForeignFile hdf5 = {"an HDF5 file", "save the model as safetensors"};
constexpr ForeignFile gzip = {"a gzip archive", "unpack it"};
constexpr ForeignFile web_page = {"a web page (HTML)", "download the file itself, not the page that shows it"};
constexpr ForeignFile refusal = {"a server's answer to a failed download", "download the file again"};

constexpr struct {
  std::string_view begins;
  const ForeignFile& file;
} magics[] = {{"version https://git-lfs.github.com/spec/", git_lfs},
              {"version https://hawser.github.com/spec/", git_lfs},  // as the first versions wrote it
              {"GGUF", gguf},
              {"PK\3\4", zip},
              {"\x89HDF\r\n", hdf5},
              {"\x1f\x8b", gzip},
              // Hugging Face's own, which curl saves without --fail.
              {"Entry not found", refusal},
              {"Invalid username or password", refusal},
              {"Access to model ", refusal},
              {"Repository not found", refusal}};

bool begins_in_any_case(std::string_view text, std::string_view lower_case) {
  if (text.size() < lower_case.size()) return false;
  for (size_t i = 0; i < lower_case.size(); i++) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
    if (c != lower_case[i]) return false;
  }
  return true;
}

// Protocol 2 to 5, then an opcode that a saved state begins with: a number, a dictionary, a class, a frame.
bool is_pickle(std::string_view text) {
  constexpr std::string_view opcodes = "\x8a}c(]\x95K";
  return text.size() >= 3 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5 && opcodes.find(text[2]) != opcodes.npos;
}

}  // namespace

std::optional<ForeignFile> recognise_foreign_file(std::string_view beginning) {
  for (const auto& magic : magics) {
    if (beginning.starts_with(magic.begins)) return magic.file;
  }
  if (is_pickle(beginning)) return pickle;
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (beginning.starts_with(byte_order_mark)) beginning.remove_prefix(byte_order_mark.size());
  const size_t text = beginning.find_first_not_of(" \t\r\n");
  if (text == beginning.npos) return std::nullopt;
  for (std::string_view tag : {"<!doctype html", "<html", "<head", "<!--", "<?xml"}) {
    if (begins_in_any_case(beginning.substr(text), tag)) return web_page;
  }
  return std::nullopt;
}

Status foreign_file_error(const ForeignFile& file, std::string_view name, Code code, std::string expected) {
  return Status(code, format_text(name, " is ", file.what, ": ", file.remedy), std::move(expected),
                std::string(file.what));
}

}  // namespace finermoe
