// Reads every file of a model once: SHA-256, and a scan for NaN and infinity.
#include <algorithm>

#include "base/allocation.h"
#include "base/file.h"
#include "base/sha256.h"
#include "convert/convert.h"
#include "convert/finite.h"
#include "format/checkpoint.h"

namespace finermoe {
namespace {

constexpr uint64_t piece_bytes = 4 << 20;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class Verifier {
 public:
  Verifier(const Progress& progress, uint64_t total, Buffer buffer)
      : progress_(progress), total_(total), buffer_(std::move(buffer)) {}

  // `tensors`: those in the file, by offset; `mapped`: the address of its first byte.
  Status read(const File& file, const std::vector<Tensor>& tensors, const std::byte* mapped, VerifiedFile& out) {
    Sha256 sha256;
    out.size = file.size();
    out.n_tensors = tensors.size();
    auto next = tensors.begin();  // the tensor at or after `offset`
    for (uint64_t offset = 0; offset < out.size;) {
      uint64_t begin = out.size, end = out.size;
      if (next != tensors.end()) {
        begin = static_cast<uint64_t>(next->data - mapped);
        end = begin + next->bytes();
      }
      bool in_tensor = offset >= begin;
      uint64_t n = in_tensor ? std::min(end - offset, whole_items(next->dtype, piece_bytes))
                             : std::min(begin - offset, piece_bytes);
      std::span<std::byte> piece(buffer_.data(), n);
      FM_TRY(file.read(offset, piece));
      sha256.update(piece);
      if (in_tensor) {
        NonFinite found = count_non_finite(next->dtype, piece.data(), n);
        out.n_nan += found.n_nan;
        out.n_infinite += found.n_infinite;
        if (found.any() && out.first_bad.empty()) out.first_bad = next->name;
      }
      offset += n;
      while (next != tensors.end() && offset >= static_cast<uint64_t>(next->data - mapped) + next->bytes()) ++next;
      done_ += n;
      if (done_ - reported_ >= piece_bytes) {
        reported_ = done_;
        FM_TRY(progress_.report("verify", done_, total_));
      }
    }
    out.sha256 = sha256.hex();
    return {};
  }

 private:
  const Progress& progress_;
  const uint64_t total_;
  uint64_t done_ = 0, reported_ = 0;
  Buffer buffer_;
};

// The files at `path`: itself, or those in the directory.
Result<std::vector<File>> open_files(const std::string& path) {
  std::vector<File> files;
  FM_ASSIGN(File root, File::open(path));
  if (!root.is_directory()) {
    files.push_back(std::move(root));
    return files;
  }
  FM_ASSIGN(std::vector<std::string> names, root.list());
  for (const std::string& name : names) {
    FM_ASSIGN(File file, root.open_at(name));
    if (!file.is_directory()) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

Result<std::vector<VerifiedFile>> verify(const std::string& path, const Progress& progress) {
  auto account = std::make_shared<MemoryAccount>(0);
  Checkpoint::Options options;
  options.account = account;
  options.progress.cancel = progress.cancel;
  FM_ASSIGN(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(path, options));
  FM_ASSIGN(std::vector<File> files, open_files(path));
  uint64_t total = 0;
  for (const File& file : files) total += file.size();
  FM_ASSIGN(Buffer buffer, Buffer::allocate(account, piece_bytes, "reading files"));

  std::vector<std::vector<Tensor>> tensors(checkpoint->files().size());
  for (const Tensor& tensor : checkpoint->tensors())
    if (tensor.bytes() > 0) tensors[tensor.file].push_back(tensor);
  for (auto& of_file : tensors)
    std::sort(of_file.begin(), of_file.end(), [](const Tensor& a, const Tensor& b) { return a.data < b.data; });

  Verifier verifier(progress, total, std::move(buffer));
  std::vector<VerifiedFile> verified;
  for (const File& file : files) {
    VerifiedFile& out = verified.emplace_back();
    out.name = base_name(file.name());
    size_t i = 0;
    while (i < tensors.size() && base_name(checkpoint->files()[i]->name()) != out.name) ++i;
    bool holds_tensors = i < tensors.size();
    FM_TRY(verifier.read(file, holds_tensors ? tensors[i] : std::vector<Tensor>(),
                         holds_tensors ? checkpoint->files()[i]->data() : nullptr, out));
  }
  FM_TRY(progress.report("verify", total, total));
  return verified;
}

}  // namespace finermoe
