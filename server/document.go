package server

import (
	"encoding/json"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// vmDocument returns a VM as JSON as guests of old know it: the legacy protocol's message, of which the reply of GetVmInfo has one.
func vmDocument(info *hypervisorv1.VmInfo) ([]byte, error) {
	all := srpc.Methods()
	at := slices.IndexFunc(all, func(m wire.Method) bool { return m.FullMethod == hypervisorv1.VmService_GetVmInfo_FullMethodName })
	if at < 0 {
		return nil, fault.New(fault.Internal, "GetVmInfo is no method of the legacy protocol")
	}
	reply, err := all[at].Reply.Wire(&hypervisorv1.GetVmInfoResponse{VmInfo: info})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(reply)
	if err != nil {
		return nil, fault.As(fault.Internal, err, "identity document")
	}
	var parts struct{ VmInfo json.RawMessage }
	err = json.Unmarshal(raw, &parts)
	return append(parts.VmInfo, '\n'), fault.As(fault.Internal, err, "identity document")
}
