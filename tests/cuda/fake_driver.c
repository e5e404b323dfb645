/* A library in the place of libcuda.so.1 that answers what a test wants of it, and fails what counting must not call.
 */
#ifndef FAKE_VERSION
#define FAKE_VERSION 13000
#endif
#ifndef FAKE_COUNT
#define FAKE_COUNT 1
#endif
#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif
#define EXPORT __attribute__((visibility("default")))

EXPORT int cuDriverGetVersion(int* version) {
  *version = FAKE_VERSION;
  return 0;
}
EXPORT int cuInit(unsigned flags) { return flags == 0 ? FAKE_INIT : 1; }
EXPORT int cuGetErrorName(int code, const char** name) {
  *name = code == 999 ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR";
  return 0;
}
EXPORT int cuDeviceGetCount(int* count) {
  *count = FAKE_COUNT;
  return 0;
}
EXPORT int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}

#define FAILS(name) \
  EXPORT int name(void) { return 3; }
FAILS(cuDeviceGetName)
#ifndef FAKE_LACKS
FAILS(cuDeviceGetUuid_v2)
#endif
FAILS(cuDeviceTotalMem_v2)
FAILS(cuDeviceGetAttribute)
FAILS(cuDevicePrimaryCtxRetain)
FAILS(cuDevicePrimaryCtxRelease_v2)
FAILS(cuCtxPushCurrent_v2)
FAILS(cuCtxPopCurrent_v2)
FAILS(cuMemAlloc_v2)
FAILS(cuMemFree_v2)
FAILS(cuMemHostAlloc)
FAILS(cuMemFreeHost)
FAILS(cuStreamCreate)
FAILS(cuStreamDestroy_v2)
FAILS(cuStreamSynchronize)
FAILS(cuMemcpyHtoDAsync_v2)
FAILS(cuMemcpyDtoHAsync_v2)
FAILS(cuMemcpyDtoDAsync_v2)
FAILS(cuMemsetD8Async)
FAILS(cuEventCreate)
FAILS(cuEventDestroy_v2)
FAILS(cuEventRecord)
FAILS(cuStreamWaitEvent)
FAILS(cuEventSynchronize)
FAILS(cuStreamBeginCapture_v2)
FAILS(cuStreamEndCapture)
FAILS(cuGraphInstantiateWithFlags)
FAILS(cuGraphLaunch)
FAILS(cuGraphExecDestroy)
FAILS(cuGraphDestroy)
