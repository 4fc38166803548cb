// cuDNN 9 took the functions of version 8 for recurrent networks, with which Jittor compiles. No
// network here is recurrent: whoever calls one is told that it is not supported.
#pragma once
#include "../nvidia/cudnn/include/cudnn.h"

struct GoneFromCudnn {
    template <class... Arguments>
    cudnnStatus_t operator()(Arguments &&...) const {
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
};

static const GoneFromCudnn cudnnSetRNNDescriptor_v6{}, cudnnGetRNNParamsSize{},
    cudnnGetRNNWorkspaceSize{}, cudnnGetRNNTrainingReserveSize{}, cudnnGetRNNLinLayerMatrixParams{},
    cudnnGetRNNLinLayerBiasParams{}, cudnnRNNForwardInference{}, cudnnRNNForwardTraining{},
    cudnnRNNBackwardData{}, cudnnRNNBackwardWeights{};
