// Shows a torch without CUDA one GPU, so that tensors may claim to lie on it and have gradients. Nothing
// runs on it: tests/helpers/fake_cuda.py computes every operation on the CPU.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace {

constexpr c10::DeviceType kGpu = c10::DeviceType::CUDA;

// Page-locked memory is ordinary memory whose addresses are remembered.
struct PinnedMemory final : c10::Allocator {
  static std::mutex& lock() {
    static std::mutex mutex;
    return mutex;
  }
  static std::map<const char*, size_t>& blocks() {
    static std::map<const char*, size_t> known;
    return known;
  }
  static void release(void* data) {
    std::lock_guard<std::mutex> guard(lock());
    blocks().erase(static_cast<const char*>(data));
    std::free(data);
  }
  static bool contains(const void* data) {
    std::lock_guard<std::mutex> guard(lock());
    const char* address = static_cast<const char*>(data);
    auto next = blocks().upper_bound(address);
    if (next == blocks().begin()) return false;
    --next;
    return address < next->first + next->second;
  }
  c10::DataPtr allocate(size_t size) override {
    const size_t rounded = (size / 64 + 1) * 64;
    void* data = std::aligned_alloc(64, rounded);
    std::lock_guard<std::mutex> guard(lock());
    blocks()[static_cast<const char*>(data)] = rounded;
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t size) const override { default_copy_data(to, from, size); }
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex current_device() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  bool isPinnedPtr(const void* data) const override { return PinnedMemory::contains(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PinnedMemory allocator;
    return &allocator;
  }
};

struct Guard final : c10::impl::NoOpDeviceGuardImpl<kGpu> {
  static c10::Device gpu() { return c10::Device(kGpu, 0); }
  static c10::Stream only() { return c10::Stream(c10::Stream::DEFAULT, gpu()); }
  c10::Device getDevice() const override { return gpu(); }
  c10::Device exchangeDevice(c10::Device) const override { return gpu(); }
  c10::Stream getStream(c10::Device) const noexcept override { return only(); }
  c10::Stream getDefaultStream(c10::Device) const override { return only(); }
  c10::Stream getNewStream(c10::Device, int) const override { return only(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

Guard guard;

__attribute__((constructor)) void install() {
  c10::impl::device_guard_impl_registry[static_cast<size_t>(kGpu)].store(&guard);
}

}  // namespace

namespace at {
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, ::Hooks)
}
