#include "base/control_group.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "../support/temporary_directory.h"

namespace finermoe {
namespace {

using Paths = std::vector<std::string>;

TEST(ControlGroups, OfTheUnifiedHierarchy) {
  EXPECT_EQ(control_groups("0::/a/b\n", "cpu"), Paths({"/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"}));
  EXPECT_EQ(control_groups("0::/\n", "memory"), Paths({"/sys/fs/cgroup"}));
}

TEST(ControlGroups, OfVersion1) {
  const std::string_view lines = "12:memory:/m\n4:cpu,cpuacct:/c/d\n3:cpuset:/s\n1:name=systemd:/n\n";
  EXPECT_EQ(control_groups(lines, "memory"), Paths({"/sys/fs/cgroup/memory/m", "/sys/fs/cgroup/memory"}));
  EXPECT_EQ(control_groups(lines, "cpu"),
            Paths({"/sys/fs/cgroup/cpu/c/d", "/sys/fs/cgroup/cpu/c", "/sys/fs/cgroup/cpu"}));
  EXPECT_EQ(control_groups(lines, "pids"), Paths());
}

TEST(ControlGroups, BothAtOnceAndLinesThatAreNone) {
  EXPECT_EQ(control_groups("7:memory:/m\n0::/u", "memory"),
            Paths({"/sys/fs/cgroup/memory/m", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/u", "/sys/fs/cgroup"}));
  for (std::string_view lines : {"", "\n\n", "nothing", "0:", "0::", "0::relative", ":::"}) {
    EXPECT_EQ(control_groups(lines, "cpu"), Paths()) << lines;
  }
}

TEST(ControlGroups, OfThisProcess) {
  for (const char* controller : {"cpu", "memory"}) {
    for (const std::string& group : control_groups(controller)) EXPECT_TRUE(group.starts_with("/sys/fs/cgroup"));
  }
  EXPECT_GT(processor_quota(), 0);
  EXPECT_GT(memory_quota(), 0u);
}

class Quotas : public testing::Test {
 protected:
  // A group that sets these files.
  std::string group(const std::string& name, std::initializer_list<std::pair<const char*, const char*>> files) {
    const std::string path = temporary_.path + "/" + name;
    std::filesystem::create_directory(path);
    for (const auto& [file, text] : files) std::ofstream(path + "/" + file) << text;
    return path;
  }

 private:
  const TemporaryDirectory temporary_;
};

TEST_F(Quotas, OfProcessors) {
  const std::string free = group("free", {{"cpu.max", "max 100000\n"}});
  const std::string half = group("half", {{"cpu.max", "50000 100000\n"}});
  const std::string three = group("three", {{"cpu.cfs_quota_us", "300000\n"}, {"cpu.cfs_period_us", "100000\n"}});
  const std::string none = group("none", {{"cpu.cfs_quota_us", "-1\n"}, {"cpu.cfs_period_us", "100000\n"}});
  EXPECT_EQ(processor_quota(Paths()), INFINITY);
  EXPECT_EQ(processor_quota({free, none, "/no/such/group"}), INFINITY);
  EXPECT_EQ(processor_quota({three}), 3);
  EXPECT_EQ(processor_quota({three, half, free}), 0.5);  // the least of all that hold it
}

TEST_F(Quotas, OfMemory) {
  const std::string free = group("free", {{"memory.max", "max\n"}});
  const std::string small = group("small", {{"memory.max", "1048576\n"}});
  const std::string old = group("old", {{"memory.limit_in_bytes", "2097152\n"}});
  const std::string all = group("all", {{"memory.limit_in_bytes", "9223372036854771712\n"}});  // version 1's "none"
  EXPECT_EQ(memory_quota(Paths()), UINT64_MAX);
  EXPECT_EQ(memory_quota({free, all, "/no/such/group"}), UINT64_MAX);
  EXPECT_EQ(memory_quota({old}), 2097152u);
  EXPECT_EQ(memory_quota({old, small, free}), 1048576u);
}

}  // namespace
}  // namespace finermoe
