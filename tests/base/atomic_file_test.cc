#include "base/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "../support/temporary_directory.h"
#include "base/file.h"

namespace finermoe {
namespace {

namespace fs = std::filesystem;

class AtomicFiles : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return directory + "/" + name; }
  std::string make(const std::string& name, const std::string& text) const {
    std::ofstream(at(name), std::ios::binary) << text;
    return at(name);
  }
  static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static mode_t mode(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_mode;
  }
  size_t n_entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
  }
  static Status save(const std::string& path, std::string_view text) {
    FM_ASSIGN(AtomicFile file, AtomicFile::create(path));
    FM_TRY(file.write(std::as_bytes(std::span(text))));
    return file.commit();
  }
  const TemporaryDirectory temporary;
  const std::string directory = temporary.path;
};

TEST_F(AtomicFiles, AppearWhole) {
  const std::string path = at("a");
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_TRUE(file->write(std::as_bytes(std::span("half"))).ok());
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_EQ(n_entries(), 0u) << "without commit nothing stays";
  ASSERT_TRUE(save(path, "one").ok());
  ASSERT_TRUE(save(path, "two").ok());
  EXPECT_EQ(read(path), "two");
  EXPECT_EQ(n_entries(), 1u);
  EXPECT_EQ(save(at("none/a"), "x").code(), FINERMOE_ERROR_FILE_WRITE);
  EXPECT_EQ(save("", "x").code(), FINERMOE_ERROR_FILE_WRITE);
}

TEST_F(AtomicFiles, AnOlderOneCanBeRefused) {
  const auto refuse = [&] { return AtomicFile::create(at("a"), AtomicFile::Older::refused); };
  auto first = refuse();
  ASSERT_TRUE(first.ok()) << first.status().message();
  ASSERT_TRUE(first->write(std::as_bytes(std::span("late"))).ok());
  ASSERT_TRUE(save(at("a"), "early").ok()) << "another takes the place meanwhile";
  EXPECT_EQ(first->commit().code(), FINERMOE_ERROR_FILE_EXISTS);
  EXPECT_EQ(refuse().status().code(), FINERMOE_ERROR_FILE_EXISTS);
  EXPECT_EQ(read(at("a")), "early");
  first = Status(FINERMOE_ERROR_FILE_EXISTS, "closed");
  EXPECT_EQ(n_entries(), 1u);
}

TEST_F(AtomicFiles, CanBeWrittenInAnyOrder) {
  auto file = AtomicFile::create(at("a"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file->file().write(4, std::as_bytes(std::span("behind", 6))).ok());
  ASSERT_TRUE(file->file().sync().ok());
  ASSERT_TRUE(file->file().write(0, std::as_bytes(std::span("head", 4))).ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(read(at("a")), "headbehind");
}

TEST_F(AtomicFiles, ModesAreKeptAndNewOnesFollowTheMask) {
  const mode_t before = umask(027);
  ASSERT_TRUE(save(at("new"), "x").ok());
  EXPECT_EQ(mode(at("new")) & 07777, 0640u);
  for (const mode_t old : {0600u, 0644u, 0444u, 0777u}) {
    ASSERT_EQ(chmod(at("new").c_str(), old), 0);
    ASSERT_TRUE(save(at("new"), "y").ok());
    EXPECT_EQ(mode(at("new")) & 07777, old);
  }
  umask(before);
}

TEST_F(AtomicFiles, OwnersAreKeptWhereTheSystemLetsThem) {
  const std::string path = make("owned", "x");
  if (chown(path.c_str(), 12345, 23456) != 0) GTEST_SKIP() << "files cannot be given away here";
  ASSERT_TRUE(save(path, "y").ok());
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12345u);
  EXPECT_EQ(info.st_gid, 23456u);
}

TEST_F(AtomicFiles, LinksAreFollowed) {
  make("target", "old");
  fs::create_directory(at("folder"));
  fs::create_symlink("../target", at("folder/link"));
  fs::create_symlink(at("folder/link"), at("chain"));
  ASSERT_TRUE(save(at("chain"), "new").ok());
  EXPECT_EQ(read(at("target")), "new");
  EXPECT_TRUE(S_ISREG(mode(at("target"))));
  EXPECT_TRUE(S_ISLNK(mode(at("folder/link"))) && S_ISLNK(mode(at("chain"))));

  fs::create_symlink("born", at("dangling"));
  ASSERT_TRUE(save(at("dangling"), "x").ok());
  EXPECT_EQ(read(at("born")), "x");
  EXPECT_TRUE(S_ISLNK(mode(at("dangling"))));

  fs::create_symlink("circle", at("circle"));
  EXPECT_EQ(save(at("circle"), "x").code(), FINERMOE_ERROR_FILE_WRITE);
}

TEST_F(AtomicFiles, WhatIsNoRegularFileIsRefusedAndStays) {
  ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
  fs::create_directory(at("folder"));
  fs::create_symlink("/dev/null", at("device"));
  for (const std::string& path :
       {at("pipe"), at("folder"), at("folder") + "/", at("device"), std::string("/dev/null")}) {
    const mode_t before = mode(path);
    const Status status = save(path, "x");
    EXPECT_EQ(status.code(), FINERMOE_ERROR_FILE_WRITE) << path;
    EXPECT_NE(status.message().find("not a regular file"), std::string::npos) << status.message();
    EXPECT_EQ(mode(path), before) << path;
  }
  EXPECT_EQ(n_entries(), 3u);

  // A descriptor's own link can lead to what has no name any more.
  const Descriptor removed = Descriptor::open(at("removed").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(unlink(at("removed").c_str()), 0);
  const Status status = save(format_text("/proc/self/fd/", removed.get()), "x");
  EXPECT_EQ(status.code(), FINERMOE_ERROR_FILE_WRITE);
  EXPECT_EQ(n_entries(), 3u);
}

TEST_F(AtomicFiles, AKilledWriterLeavesNothingForEver) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto file = AtomicFile::create(at("a"));
    if (!file.ok() || !file->write(std::as_bytes(std::span("half"))).ok()) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state));
  const int fd = open(directory.c_str(), O_TMPFILE | O_WRONLY, 0600);
  if (fd >= 0) {
    close(fd);
    EXPECT_EQ(n_entries(), 0u) << "a file without a name goes with its writer";
  }
  ASSERT_TRUE(save(at("a"), "x").ok());
  EXPECT_EQ(n_entries(), 1u) << "what has a name is removed by the next writer";
}

TEST_F(AtomicFiles, OnlyAbandonedPartialsAreRemoved) {
  const std::string abandoned = make("a.partial-0123456789abcdef", "x");
  const std::string living = make("a.partial-00000000ffffffff", "x");
  const std::string others[] = {make("a.partial-0123456789abcdeg", "x"), make("a.partial-0123", "x"),
                                make("b.partial-0123456789abcdef", "x"), make("a.partial-0123456789abcdef.txt", "x")};
  fs::create_directory(at("a.partial-1111111111111111"));
  fs::create_symlink(others[0], at("a.partial-2222222222222222"));
  const Descriptor lock = Descriptor::open(living.c_str(), O_RDONLY);
  ASSERT_EQ(flock(lock.get(), LOCK_EX), 0);
  ASSERT_TRUE(save(at("a"), "x").ok());
  EXPECT_FALSE(fs::exists(abandoned));
  EXPECT_TRUE(fs::exists(living));
  for (const std::string& other : others) EXPECT_TRUE(fs::exists(other)) << other;
  EXPECT_EQ(n_entries(), 8u);
}

TEST_F(AtomicFiles, NamesOfTheGreatestLength) {
  const std::string path = at(std::string(255, 'n'));
  ASSERT_TRUE(save(path, "x").ok());
  ASSERT_TRUE(save(path, "y").ok());
  EXPECT_EQ(read(path), "y");
}

// A host that has closed its standard descriptors, as daemons do.
TEST_F(AtomicFiles, StandardDescriptorsAreNeverTaken) {
  make("model", "x");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (int fd = 0; fd < 3; fd++) close(fd);
    int failed = 0;
    auto opened = File::open(directory);
    if (!opened.ok() || opened->descriptor() < 3) failed |= 1;
    auto inside = opened->open_at("model");
    if (!inside.ok() || inside->descriptor() < 3) failed |= 2;
    auto copy = File::duplicate(inside->descriptor(), "a copy");
    if (!copy.ok() || copy->descriptor() < 3) failed |= 4;
    if (!opened->list().ok()) failed |= 8;
    auto written = AtomicFile::create(at("b"));
    if (!written.ok() || !written->write(std::as_bytes(std::span("x"))).ok() || !written->commit().ok()) failed |= 16;
    for (int fd = 0; fd < 3; fd++) {
      if (fcntl(fd, F_GETFD) >= 0) failed |= 32;
    }
    _exit(failed);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFEXITED(state));
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

}  // namespace
}  // namespace finermoe
