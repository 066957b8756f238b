/// The verbs of WKV-4 on a device, compiled.
#include "aviary/cuda/channel.hpp"

#include "aviary/wkv4.hpp"

using namespace aviary;

using Channels = Wkv4<float, 768>;
template aviary::cuda::Status aviary::cuda::forward<Channels>(Channels::ForwardCall const&, aviary::cuda::Stream);
template aviary::cuda::Status aviary::cuda::backward<Channels>(Channels::BackwardCall const&, aviary::cuda::Stream);
template std::size_t aviary::cuda::backward_workspace<Channels>(Channels::Inputs const&, Index, Index) noexcept;

using WideChannels = Wkv4<double, 24>;
template aviary::cuda::Status aviary::cuda::forward<WideChannels>(WideChannels::ForwardCall const&,
                                                                  aviary::cuda::Stream);
template aviary::cuda::Status aviary::cuda::backward<WideChannels>(WideChannels::BackwardCall const&,
                                                                   aviary::cuda::Stream);
