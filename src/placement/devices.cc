#include "placement/devices.h"

#include <algorithm>

#include "base/build_id.h"
#include "base/file.h"
#include "base/shared_library.h"

namespace finermoe {
namespace {

constexpr std::string_view found_module = "libfinermoe_cuda.so";

std::string names_of(const DeviceList& devices) {
  std::string names;
  for (const auto& device : devices) names += format_text(names.empty() ? "" : ", ", device->name());
  return names;
}

// "cuda:" of "cuda:0"; empty where there is no colon.
std::string_view kind_of(std::string_view name) { return name.substr(0, name.find(':') + 1); }

bool names_several(std::string_view name) { return name.find(',') != name.npos; }

// "cuda:0,cuda:1": a model's layers are not divided among devices.
Status several(std::string_view names) {
  std::string quoted;
  size_t n = 0;
  for (size_t begin = 0; begin <= names.size(); n++) {
    const size_t end = std::min(names.find(',', begin), names.size());
    quoted += format_text(n == 0 ? "\"" : ", \"", names.substr(begin, end - begin), "\"");
    begin = end + 1;
  }
  return Status(FINERMOE_ERROR_UNSUPPORTED,
                format_text("one device computes a model, and ", n, " are named: ", quoted,
                            "; only its routed experts can be on another, by a name of their own"),
                "one device", std::string(names));
}

Result<const DeviceModule*> open_module(const std::string& path) {
  FM_ASSIGN(const std::string file, library_file(path));
  FM_ASSIGN(const SharedLibrary library, SharedLibrary::open(file));
  void* const entry = library.find(device_module_entry);
  if (entry == nullptr) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, format_text(path, " is not a device module of libfinermoe"),
                  device_module_entry, "a library without it");
  }
  const DeviceModule* const found = reinterpret_cast<DeviceModuleEntry>(entry)();
  if (std::string_view(found->build) != FINERMOE_BUILD_ID) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, format_text(path, " was built for a different build of libfinermoe"),
                  FINERMOE_BUILD_ID, found->build);
  }
  return found;
}

bool is_of_found_module(std::string_view name) { return name.starts_with("cuda") && !names_several(name); }

// The module that has a device of this name, if nobody has named it.
Result<std::string> module_for(std::string_view name, const DeviceList& devices) {
  const std::vector<std::string> folders = module_folders();
  std::string module = find_module(folders);
  if (!module.empty()) return module;
  return Status(FINERMOE_ERROR_UNSUPPORTED,
                format_text("there is no device \"", name, "\" here: ", found_module,
                            " is not beside libfinermoe, nor in ", folders.back()),
                names_of(devices), std::string(name));
}

}  // namespace

Result<DeviceList> list_devices(DeviceList built_in, const std::string& module) {
  if (module.empty()) return built_in;
  FM_ASSIGN(const DeviceModule* const found, open_module(module));
  FM_ASSIGN(const DeviceList of_module, found->devices());
  built_in.insert(built_in.end(), of_module.begin(), of_module.end());
  return built_in;
}

std::string find_module(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    std::string path = format_text(folder, "/", found_module);
    if (!folder.empty() && File::open(path).status().code() != FINERMOE_ERROR_FILE_NOT_FOUND) return path;
  }
  return {};
}

std::vector<std::string> module_folders() {
  return {folder_of_code(reinterpret_cast<const void*>(&module_folders)), FINERMOE_LIBRARY_FOLDER};
}

DeviceList list_found_devices(DeviceList devices) {
  const std::string module = find_module(module_folders());
  auto all = list_devices(devices, module);
  return all.ok() ? std::move(*all) : std::move(devices);
}

Result<DeviceList> list_devices_for(DeviceList devices, std::string_view name) {
  if (!is_of_found_module(name)) return devices;
  for (const auto& device : devices) {
    if (is_of_found_module(device->name())) return devices;
  }
  FM_ASSIGN(const std::string module, module_for(name, devices));
  return list_devices(std::move(devices), module);
}

Result<std::shared_ptr<const Device>> find_device(const DeviceList& devices, std::string_view name) {
  if (name.empty()) return devices.front();
  if (names_several(name)) return several(name);
  const std::string_view kind = kind_of(name);
  bool is_known = false;
  DeviceList found;
  for (const auto& device : devices) {
    if (name == device->name()) return device;
    if (kind.empty() || kind != kind_of(device->name())) continue;
    is_known = true;
    // Of its UUID there has to be more than what all have, "GPU-".
    const std::string uuid = device->uuid();
    const std::string_view beginning = name.substr(kind.size());
    if (uuid.starts_with(beginning) && beginning.size() > uuid.find('-') + 1) found.push_back(device);
  }
  if (found.size() == 1) return found.front();
  if (found.size() > 1) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("\"", name, "\" is the beginning of several UUIDs: those of ", names_of(found)),
                  "the beginning of one UUID", names_of(found));
  }
  return Status(is_known ? FINERMOE_ERROR_NO_DEVICE : FINERMOE_ERROR_UNSUPPORTED,
                format_text("there is no device \"", name, "\" here"), names_of(devices), std::string(name));
}

Result<std::shared_ptr<const Device>> find_device_to_plan_for(const DeviceList& built_in, std::string module,
                                                              std::string_view name) {
  if (module.empty() && is_of_found_module(name)) {
    FM_ASSIGN(module, module_for(name, built_in));
  }
  const auto find_here = [&]() -> Result<std::shared_ptr<const Device>> {
    FM_ASSIGN(const DeviceList devices, list_devices(built_in, module));
    return find_device(devices, name);
  };
  auto here = find_here();
  if (here.ok() || module.empty()) return here;
  FM_ASSIGN(const DeviceModule* const opened, open_module(module));
  auto elsewhere = opened->device_to_plan_for(name);
  return elsewhere ? std::move(elsewhere) : here;
}

}  // namespace finermoe
