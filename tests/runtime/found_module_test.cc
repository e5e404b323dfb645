// Where a device module is looked for that nobody has named; tests/cli/system.py does it with the library itself.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "../support/temporary_directory.h"
#include "base/shared_library.h"
#include "placement/devices.h"

namespace finermoe {
namespace {

TEST(FoundModule, TheFirstFolderThatHasIt) {
  const TemporaryDirectory first, second;
  const std::string name = "/libfinermoe_cuda.so";
  EXPECT_EQ(find_module({first.path, second.path}), "");
  std::ofstream(second.path + name) << "a module";
  EXPECT_EQ(find_module({first.path, second.path}), second.path + name);
  EXPECT_EQ(find_module({"", first.path + "/none", second.path}), second.path + name);
  std::ofstream(first.path + name) << "a module";
  EXPECT_EQ(find_module({first.path, second.path}), first.path + name);
}

// Linked statically, it is the program's folder, whatever name the program was started by.
TEST(FoundModule, BesideWhatHasTheCode) {
  const std::string own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  EXPECT_EQ(folder_of_code(reinterpret_cast<const void*>(&module_folders)), own);
  ASSERT_EQ(module_folders().size(), 2u);
  EXPECT_EQ(module_folders()[0], own);
  EXPECT_EQ(module_folders()[1], FINERMOE_LIBRARY_FOLDER);
  EXPECT_EQ(folder_of_code(nullptr), "");
}

}  // namespace
}  // namespace finermoe
