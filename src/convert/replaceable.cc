#include "convert/replaceable.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/file.h"
#include "format/checkpoint.h"

namespace finermoe {
namespace {

Status spared(const std::string& shown, const std::string& why) {
  return Status(FINERMOE_ERROR_FILE_EXISTS, format_text(shown, " is not replaced: ", why),
                "a model as the writers make it, an empty directory, or a name that is free", why);
}

bool is_weights(std::string_view name) { return name.ends_with(".safetensors"); }

bool is_of_a_model(std::string_view name) {
  return is_weights(name) || name == "config.json" || name == "model.safetensors.index.json" || is_model_text(name);
}

}  // namespace

Status may_replace(const std::string& out, const std::string& shown, bool single_file) {
  const Result<File> opened = File::open(out);
  if (!opened.ok()) return spared(shown, opened.status().message());
  const File& there = *opened;
  if (!there.is_directory()) {
    return single_file ? Status() : spared(shown, "it is a file, and the output would be a directory");
  }
  if (single_file) return spared(shown, "it is a directory, and the output would be a single file");
  FM_ASSIGN(const std::vector<std::string> names, there.list());
  for (const std::string& name : names) {
    struct stat info;  // a link to a file, as in Hugging Face's cache, is removed without the file
    const bool is_file = fstatat(there.descriptor(), name.c_str(), &info, 0) == 0 && S_ISREG(info.st_mode);
    if (!is_file || !is_of_a_model(name)) {
      return spared(shown, format_text("it holds ", name, ", which is not of a model that a writer has made"));
    }
  }
  const bool has_config = std::find(names.begin(), names.end(), "config.json") != names.end();
  const bool has_weights = std::any_of(names.begin(), names.end(), is_weights);
  if (names.empty() || (has_config && has_weights)) return {};
  return spared(shown, format_text("it holds ", names.front(), " but no ", has_config ? "weights" : "config.json"));
}

}  // namespace finermoe
