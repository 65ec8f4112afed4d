package server

import (
	"context"
	"os"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/intercept"
	"github.com/hyperplane-project/hyperplane/srpcshim/dialogue"
)

// acknowledgeTime is how long the creator of a VM has on SRPC to acknowledge it.
const acknowledgeTime = 15 * time.Second

// srpcLists are the pages that legacy servers have beside SRPC: the methods, those that every user may call, and the host's name.
func (s *Server) srpcLists(ctx context.Context, rules *intercept.Rules) map[string]func() []string {
	anybody := principal.With(ctx, principal.Principal{Name: "anybody", Local: true})
	return map[string]func() []string{
		"/_goSRPC_/listMethods": func() []string { return s.srpc.Names(func(string) bool { return true }) },
		"/_goSRPC_/listPublicMethods": func() []string {
			return s.srpc.Names(func(fullMethod string) bool { return rules.MayCall(anybody, fullMethod, false) == nil })
		},
		"/_goSRPC_/getHostname": func() []string {
			name, err := os.Hostname()
			if err != nil {
				return nil
			}
			return []string{name}
		},
	}
}

// srpcHooks are what SRPC asks for beside the services.
func (s *Server) srpcHooks() dialogue.Hooks {
	return dialogue.Hooks{
		Created: func(ctx context.Context, address string) {
			if info, err := s.services.registry.Info(address); err == nil { // otherwise it has gone already
				s.services.vms.ArmAcknowledgement(ctx, info.GetUuid(), acknowledgeTime)
			}
		},
		VolumeLength: func(_ context.Context, ref string, index uint32) (uint64, error) {
			record, err := s.services.registry.Get(ref)
			if err != nil {
				return 0, err
			}
			if int(index) >= len(record.GetVolumeLocations()) {
				return 0, fault.New(fault.NotFound, "vm %s: there is no volume %d", ref, index)
			}
			st, err := os.Stat(record.GetVolumeLocations()[index].GetFilename())
			if err != nil {
				return 0, fault.Wrap(err, "vm %s: volume %d", ref, index)
			}
			return uint64(st.Size()), nil
		},
	}
}
