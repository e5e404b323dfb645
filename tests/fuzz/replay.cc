// Runs a fuzz target on files, without libFuzzer: replay [--must-complete] [--verbose] FILE_OR_FOLDER…
//   --must-complete  an input that the target does not take to its end is an error
//   --verbose        print what the library refuses, and why
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "support.h"

// What mutators call. Nothing is mutated here.
extern "C" size_t LLVMFuzzerMutate(uint8_t*, size_t size, size_t) { return size; }

namespace {

size_t n_inputs = 0, n_refused = 0;

void replay(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) replay(entry.path());
    return;
  }
  std::ifstream file(path, std::ios::binary);
  const std::string input((std::istreambuf_iterator<char>(file)), {});
  if (!file) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    std::exit(1);
  }
  const size_t before = fuzz::n_completed;
  std::fprintf(stderr, "%s\n", path.c_str());  // the last line says which input it was that ended the program
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  n_inputs++;
  if (fuzz::n_completed == before) n_refused++;
}

}  // namespace

int main(int argc, char** argv) {
  bool must_complete = false;
  for (int i = 1; i < argc; i++) {
    if (std::string_view(argv[i]) == "--must-complete") {
      must_complete = true;
    } else if (std::string_view(argv[i]) == "--verbose") {
      fuzz::verbose = true;
    } else {
      replay(argv[i]);
    }
  }
  std::printf("%zu inputs, %zu of them not taken to the end\n", n_inputs, n_refused);
  return n_inputs == 0 || (must_complete && n_refused > 0) ? 1 : 0;
}
