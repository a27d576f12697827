// A device type whose memory is the host's: every operation is the CPU's own, on the same bytes and strides, so that its
// arithmetic is the CPU's to the bit. What a GPU would refuse is refused first, and what it would wait for is told.

#include <ATen/autocast_mode.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DispatchKeySet;
using c10::IValue;
using c10::Storage;

constexpr auto TYPE = c10::DeviceType::PrivateUse1;
constexpr auto KEY = c10::DispatchKey::PrivateUse1;
constexpr DeviceIndex DEVICES = 2;

thread_local DeviceIndex current = 0;
std::atomic<bool> without_float64{false};
std::array<std::atomic<bool>, DEVICES> touched{};

// ---- What happens, told to a Python function. It is never freed: the interpreter may be gone by then.

PyObject* listener = nullptr;
std::atomic<bool> listening{false};

void tell(const std::string& what) {
  if (listening) {
    py::gil_scoped_acquire gil;
    py::reinterpret_borrow<py::function>(listener)(what);
  }
}

// Operations whose result's size or value the host has to know: a GPU's queue is waited for.
const std::unordered_set<std::string> WAITS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2",
    "aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::equal", "aten::repeat_interleave"};

// Operations that CUDA has no deterministic kernel for, of those that a program like this one may come to use.
const std::unordered_set<std::string> NOT_DETERMINISTIC = {
    "aten::histc", "aten::kthvalue", "aten::median", "aten::nll_loss2d_forward", "aten::nll_loss2d_backward",
    "aten::_adaptive_avg_pool2d_backward", "aten::max_pool3d_with_indices_backward", "aten::_ctc_loss_backward",
    "aten::upsample_bilinear2d_backward", "aten::upsample_bicubic2d_backward", "aten::upsample_linear1d_backward",
    "aten::grid_sampler_2d_backward", "aten::max_unpool2d", "aten::put_", "aten::reflection_pad2d_backward"};

// Operations of cuBLAS, deterministic only where its workspace is fixed by an environment variable.
const std::unordered_set<std::string> MATRIX_PRODUCTS = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmv", "aten::mv", "aten::dot", "aten::linear"};

void refuse_chance(const std::string& name, const std::vector<IValue>& arguments) {
  if (!at::globalContext().deterministicAlgorithms()) {
    return;
  }
  // Counting is exact in any order; adding up weights, and running sums of floats, are not.
  const bool counts_weights = name == "aten::bincount" && !arguments.at(1).isNone();
  const bool runs = name == "aten::cumsum" && arguments.at(0).isTensor() && arguments.at(0).toTensor().is_floating_point();
  TORCH_CHECK(
      !NOT_DETERMINISTIC.count(name) && !counts_weights && !runs, name, " has no deterministic kernel on this device");
  TORCH_CHECK(
      !MATRIX_PRODUCTS.count(name) || std::getenv("CUBLAS_WORKSPACE_CONFIG") != nullptr,
      name, " is deterministic only with CUBLAS_WORKSPACE_CONFIG=:4096:8");
}

// ---- Memory

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    touched.at(current) = true;
    void* data = c10::alloc_cpu(bytes);
    return {data, data, &c10::free_cpu, Device(TYPE, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
};

Memory memory;
REGISTER_ALLOCATOR(TYPE, &memory);

void let_go(void* kept) {
  delete static_cast<Storage*>(kept);
}

// The same bytes under another device's name; they live as long as either does.
Storage renamed(const Storage& storage, Device device) {
  auto* data = const_cast<void*>(storage.data());
  c10::Allocator* allocator = device.is_cpu() ? c10::GetCPUAllocator() : &memory;
  return Storage(
      Storage::use_byte_size_t(), storage.nbytes(), c10::DataPtr(data, new Storage(storage), &let_go, device), allocator, true);
}

at::Tensor over(Storage storage, const at::Tensor& like, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    made.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  return made;
}

bool is_ours(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == TYPE;
}

at::Tensor on_host(const at::Tensor& tensor) {
  return is_ours(tensor) ? over(renamed(tensor.storage(), c10::kCPU), tensor, c10::DispatchKey::CPU) : tensor;
}

// ---- Random numbers: a CPU generator under another device's name

struct Dice final : c10::GeneratorImpl {
  explicit Dice(DeviceIndex index) : GeneratorImpl(Device(TYPE, index), DispatchKeySet(KEY)), inner(at::detail::createCPUGenerator()) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { inner.set_offset(offset); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  Dice* clone_impl() const override {
    auto* copy = new Dice(device().index());
    copy->inner = inner.clone();
    return copy;
  }

  mutable at::Generator inner;
};

at::Generator& default_dice(DeviceIndex index) {
  static std::array<at::Generator, DEVICES> all = {at::make_generator<Dice>(0), at::make_generator<Dice>(1)};
  return all.at(index < 0 ? current : index);
}

void check_kind(at::ScalarType kind) {
  TORCH_CHECK(!(without_float64 && kind == at::kDouble), "this device has no float64");
}

// ---- Any operation: checked, run by the CPU on the same bytes, and its results brought under this device's name

struct Call {
  std::optional<Device> device;                            // of the tensors
  std::vector<std::pair<at::Tensor, at::Tensor>> aliases;  // on this device -> on the host

  at::Tensor take(const at::Tensor& tensor, const std::string& name, bool host_is_fine) {
    if (!tensor.defined()) {
      return tensor;
    }
    if (!is_ours(tensor)) {
      // A number is handed over with the call; so are 0-dimensional tensors, but not to matrix products and the like.
      TORCH_CHECK(
          tensor.dim() == 0 || host_is_fine || tensor.device().is_meta(),
          name, ": tensors on one device are wanted, and one is on ", tensor.device(), " and another on a GPU");
      if (tensor.dim() > 0) {
        tell("to the device");
      }
      return tensor;
    }
    TORCH_CHECK(
        !device || *device == tensor.device(),
        name, ": tensors on one device are wanted, and one is on ", *device, " and another on ", tensor.device());
    device = tensor.device();
    for (const auto& [ours, host] : aliases) {
      if (ours.is_same(tensor)) {
        return host;
      }
    }
    aliases.emplace_back(tensor, on_host(tensor));
    return aliases.back().second;
  }

  // What an operation did to the shape or memory of what it wrote to, such as an `out` that was too small.
  void take_over_resizes() const {
    for (const auto& [ours, host] : aliases) {
      if (ours.storage().data() != host.storage().data() || ours.sizes() != host.sizes()) {
        auto* storage = ours.storage().unsafeGetStorageImpl();
        if (ours.storage().data() != host.storage().data()) {
          auto grown = renamed(host.storage(), ours.device());
          storage->set_nbytes(grown.nbytes());
          storage->set_data_ptr(std::move(grown.unsafeGetStorageImpl()->_mutable_data_ptr_no_checks()));
        }
        ours.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
      }
    }
  }

  at::Tensor give(const at::Tensor& result) const {
    if (!result.defined() || !result.device().is_cpu()) {
      return result;
    }
    for (const auto& [ours, host] : aliases) {
      if (host.is_same(result)) {
        return ours;
      }
    }
    for (const auto& [ours, host] : aliases) {
      if (result.storage().data() != nullptr && result.storage().data() == host.storage().data()) {
        return over(ours.storage(), result, KEY);
      }
    }
    check_kind(result.scalar_type());
    auto target = device.value_or(Device(TYPE, current));
    touched.at(target.index()) = true;
    return over(renamed(result.storage(), target), result, KEY);
  }
};

bool wants_generator(const c10::Argument& argument) {
  auto type = argument.type();
  return type->kind() == c10::TypeKind::OptionalType &&
      type->expectRef<c10::OptionalType>().getElementType()->kind() == c10::TypeKind::GeneratorType;
}

void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& name = schema.name();
  const auto count = schema.arguments().size();
  std::vector<IValue> arguments(stack->end() - static_cast<std::ptrdiff_t>(count), stack->end());
  torch::jit::drop(*stack, count);
  refuse_chance(name, arguments);
  if (WAITS.count(name)) {
    tell("wait: " + name);
  }
  Call call;
  // CUDA takes the numbers of rows from the host as well, and copies them.
  const bool indexing = name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
  for (size_t i = 0; i < count; ++i) {
    auto& value = arguments[i];
    if (value.isTensor()) {
      value = call.take(value.toTensor(), name, false);
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> taken;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        taken.push_back(call.take(tensor, name, false));
      }
      value = c10::List<at::Tensor>(taken);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> taken;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        taken.push_back(tensor ? std::optional(call.take(*tensor, name, indexing)) : std::nullopt);
      }
      value = std::move(taken);
    } else if (value.isDevice() && value.toDevice().type() == TYPE) {
      auto device = value.toDevice();
      call.device = call.device.value_or(device.has_index() ? device : Device(TYPE, current));
      value = Device(c10::kCPU);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    auto& value = arguments[i];
    if (value.isGenerator()) {
      auto generator = value.toGenerator();
      TORCH_CHECK(
          generator.device().type() == TYPE, name, ": a generator of this device is wanted, got one of ", generator.device());
      value = static_cast<Dice*>(generator.unsafeGetGeneratorImpl())->inner;
    } else if (value.isNone() && wants_generator(schema.arguments()[i])) {
      auto index = call.device ? call.device->index() : current;
      value = static_cast<Dice*>(default_dice(index).unsafeGetGeneratorImpl())->inner;
    }
  }
  for (auto& value : arguments) {
    torch::jit::push(*stack, std::move(value));
  }
  {
    at::AutoDispatchBelowAutograd no_gradients;
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    op.redispatchBoxed(DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  call.take_over_resizes();
  const auto results = schema.returns().size();
  for (auto place = stack->end() - static_cast<std::ptrdiff_t>(results); place != stack->end(); ++place) {
    if (place->isTensor()) {
      *place = call.give(place->toTensor());
    } else if (place->isTensorList()) {
      std::vector<at::Tensor> given;
      for (const at::Tensor& tensor : place->toTensorVector()) {
        given.push_back(call.give(tensor));
      }
      *place = c10::List<at::Tensor>(given);
    }
  }
}

// ---- The few operations that know where a tensor lies

struct On {  // makes a device the current one, as long as it lives
  explicit On(Device device) : before(current) {
    if (device.has_index()) {
      TORCH_CHECK(device.index() < DEVICES, "there is no device ", static_cast<int>(device.index()));
      current = device.index();
    }
  }
  ~On() { current = before; }
  DeviceIndex before;
};

at::Tensor empty(
    c10::IntArrayRef size, std::optional<at::ScalarType> kind, std::optional<at::Layout>, std::optional<Device> device,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  auto type = c10::dtype_or_default(kind);
  check_kind(type);
  On on(device.value_or(Device(TYPE)));
  return at::detail::empty_generic(size, &memory, DispatchKeySet(KEY), type, format);
}

at::Tensor empty_strided(
    c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> kind, std::optional<at::Layout>,
    std::optional<Device> device, std::optional<bool>) {
  auto type = c10::dtype_or_default(kind);
  check_kind(type);
  On on(device.value_or(Device(TYPE)));
  return at::detail::empty_strided_generic(size, stride, &memory, DispatchKeySet(KEY), type);
}

void grow(c10::StorageImpl* storage, size_t bytes) {
  On on(storage->device());
  auto data = memory.allocate(bytes);
  if (storage->data() != nullptr) {
    std::memcpy(data.get(), storage->data(), std::min(bytes, storage->nbytes()));
  }
  storage->set_data_ptr_noswap(std::move(data));
  storage->set_nbytes(bytes);
}

const at::Tensor& resize_(const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) {
    impl->empty_tensor_restride(*format);
  }
  auto bytes = at::detail::computeStorageNbytes(
      self.sizes(), self.strides(), self.dtype().itemsize()) + self.storage_offset() * self.dtype().itemsize();
  if (bytes > self.storage().nbytes()) {
    grow(self.storage().unsafeGetStorageImpl(), bytes);
  }
  return self;
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool) {
  check_kind(is_ours(self) ? self.scalar_type() : at::kFloat);
  if (is_ours(self) != is_ours(source)) {
    tell(is_ours(self) ? "to the device" : "wait: to the host");
  } else if (self.device() != source.device()) {
    tell("between devices");
  }
  at::AutoDispatchBelowAutograd no_gradients;
  on_host(self).copy_(on_host(source));
  return self;
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target, bool non_blocking) {
  at::Tensor written = target;
  return copy_(written, source, non_blocking);
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& target) {
  target.resize_(source.sizes());
  return copy_from(source, target, false);
}

at::Tensor& set_whole(at::Tensor& self, at::Storage source) {
  auto size = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return at::native::set_storage_cpu_(self, std::move(source), 0, {size}, {1});
}

at::Tensor& set_nothing(at::Tensor& self) {
  return at::native::set_storage_cpu_(self, empty({0}, at::kByte, {}, self.device(), {}, {}).storage(), 0, {0}, {});
}

// Dropout in training, which the CPU draws from a generator that it is not told.
std::tuple<at::Tensor, at::Tensor> dropout(const at::Tensor& input, double rate, std::optional<bool> train) {
  at::AutoDispatchBelowAutograd no_gradients;
  if (!train.value_or(true)) {
    return {input.clone(), at::ones_like(input, at::kBool)};
  }
  auto kept = at::empty_like(input).bernoulli_(1 - rate);
  auto scale = rate < 1 ? 1 / (1 - rate) : 0.0;
  return {input * kept * scale, kept.to(at::kBool)};
}

// A step of an LSTM, which on GPUs is one operation that the CPU does not have.
std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_step(
    const at::Tensor& from_input, const at::Tensor& from_hidden, const at::Tensor& cell,
    const std::optional<at::Tensor>& input_bias, const std::optional<at::Tensor>& hidden_bias) {
  at::AutoDispatchBelowAutograd no_gradients;
  Call call;
  auto host = [&call](const at::Tensor& tensor) { return call.take(tensor, "aten::_thnn_fused_lstm_cell", false); };
  auto input = host(from_input), hidden = host(from_hidden), before = host(cell);
  auto gates = (input_bias ? input + host(*input_bias) : input) + (hidden_bias ? hidden + host(*hidden_bias) : hidden);
  auto parts = gates.chunk(4, 1);
  auto in = parts[0].sigmoid(), forget = parts[1].sigmoid(), candidate = parts[2].tanh(), out = parts[3].sigmoid();
  auto after = forget * before + in * candidate;
  return {call.give(out * after.tanh()), call.give(after), call.give(at::cat({in, forget, candidate, out}, 1))};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_step_backward(
    const std::optional<at::Tensor>& by_hidden, const std::optional<at::Tensor>& by_cell, const at::Tensor& cell,
    const at::Tensor& cell_after, const at::Tensor& workspace, bool has_bias) {
  at::AutoDispatchBelowAutograd no_gradients;
  Call call;
  auto host = [&call](const at::Tensor& tensor) { return call.take(tensor, "aten::_thnn_fused_lstm_cell", false); };
  auto given = [&host](const std::optional<at::Tensor>& tensor) { return tensor && tensor->defined() ? host(*tensor) : at::Tensor(); };
  auto before = host(cell), bent = host(cell_after).tanh();
  auto parts = host(workspace).chunk(4, 1);
  auto in = parts[0], forget = parts[1], candidate = parts[2], out = parts[3];
  auto hidden = given(by_hidden), later = given(by_cell);
  hidden = hidden.defined() ? hidden : at::zeros_like(before);
  auto slope = hidden * out * (1 - bent * bent);
  slope = later.defined() ? slope + later : slope;
  auto gates = at::cat(
      {slope * candidate * in * (1 - in), slope * before * forget * (1 - forget),
       slope * in * (1 - candidate * candidate), hidden * bent * out * (1 - out)}, 1);
  return {call.give(gates), call.give(slope * forget), has_bias ? call.give(gates.sum(0)) : at::Tensor()};
}

// Convolutions, whose choice of a library torch makes by the kind of device.
at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups) {
  at::AutoDispatchBelowAutograd no_gradients;
  Call call;
  auto host = [&call](const at::Tensor& tensor) { return call.take(tensor, "aten::convolution", false); };
  auto offset = bias ? std::optional(host(*bias)) : std::nullopt;
  return call.give(at::convolution_symint(
      host(input), host(weight), offset, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& slope, const at::Tensor& input, const at::Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups, std::array<bool, 3> wanted) {
  at::AutoDispatchBelowAutograd no_gradients;
  Call call;
  auto host = [&call](const at::Tensor& tensor) { return call.take(tensor, "aten::convolution_backward", false); };
  auto [by_input, by_weight, by_bias] = at::convolution_backward_symint(
      host(slope), host(input), host(weight), weight.sym_sizes().slice(0, 1), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  return {call.give(by_input), call.give(by_weight), call.give(by_bias)};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("set_.source_Storage", &set_whole);
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
  m.impl("set_.source_Tensor", TORCH_FN(at::native::set_tensor_));
  m.impl("set_", &set_nothing);
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("view.dtype", TORCH_FN(at::native::view_dtype));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("native_dropout", &dropout);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("_thnn_fused_lstm_cell", &lstm_step);
  m.impl("_thnn_fused_lstm_cell_backward_impl", &lstm_step_backward);
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(bmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(cross_entropy_loss, fp32)
  KERNEL_PRIVATEUSEONE(softmax, int, fp32)
  KERNEL_PRIVATEUSEONE(log_softmax, int, fp32)
}

// ---- What torch asks of a kind of device

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return TYPE; }
  Device exchangeDevice(Device device) const override {
    Device before(TYPE, current);
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return Device(TYPE, current); }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < DEVICES, "there is no device ", static_cast<int>(device.index()));
    current = device.index();
  }
  void uncheckedSetDevice(Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getDefaultStream(Device device) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return getStream(stream.device()); }
  DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void record(void**, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { tell("wait: stream"); }
  void synchronizeDevice(const DeviceIndex) const override { tell("wait: device"); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex index) const override { return touched.at(index); }
  const at::Generator& getDefaultGenerator(DeviceIndex index) const override { return default_dice(index); }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    return at::make_generator<Dice>(index < 0 ? current : index);
  }
  Device getDeviceFromPtr(void*) const override { return Device(TYPE, current); }
  void resizePrivateUse1Bytes(const Storage& storage, size_t bytes) const override {
    grow(storage.unsafeGetStorageImpl(), bytes);
  }
  DeviceIndex deviceCount() const override { return DEVICES; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex index) const override { Guard().setDevice(Device(TYPE, index)); }
  DeviceIndex exchangeDevice(DeviceIndex index) const override {
    return Guard().exchangeDevice(Device(TYPE, index)).index();
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return exchangeDevice(index); }
};

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("device_count", [] { return static_cast<int>(DEVICES); });
  m.def("current_device", [] { return static_cast<int>(current); });
  m.def("set_device", [](int index) { Guard().setDevice(Device(TYPE, static_cast<DeviceIndex>(index))); });
  m.def("synchronize", [] { tell("wait: device"); });
  m.def("default_generator", [](int index) { return default_dice(static_cast<DeviceIndex>(index)); });
  m.def("listen", [](const py::object& function) {
    listening = !function.is_none();
    listener = py::object(function).release().ptr();
  });
  m.def("without_float64", [](bool yes) { without_float64 = yes; });
  m.def("touched", [] {
    std::vector<int> found;
    for (int i = 0; i < DEVICES; ++i) {
      if (touched.at(i)) {
        found.push_back(i);
      }
    }
    return found;
  });
  m.def("forget_touches", [] {
    for (auto& one : touched) {
      one = false;
    }
  });
}
