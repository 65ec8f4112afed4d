// Package host is the HostService: what the host has, and what it may do.
package host

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// refresh is how often the figures are published when no VM changes.
const refresh = 15 * time.Second

// Meter knows what VMs use.
type Meter interface {
	// Capacity returns memory and processors: all and what is left. TotalVolumeBytes is not filled in.
	Capacity(ctx context.Context) (*hypervisorv1.GetCapacityResponse, error)
}

// Service is the HostService.
type Service struct {
	hypervisorv1.UnimplementedHostServiceServer
	Log    *slog.Logger
	Driver hypervisor.Driver
	Meter  Meter
	Feed   *feed.Feed
	// VolumeDirectories are the directories in which volumes are kept.
	VolumeDirectories []string
	// Switch is whether the host is disabled, Owners are who owns it.
	Switch *Switch
	Owners *Owners
	Cookie *RootCookie
	// VMs are all VMs, Operations what is done to them.
	VMs        VMs
	Operations Operations
	// PowerOffCommand is the program that powers the host off, with its arguments; empty = there is none. Programs runs it.
	PowerOffCommand []string
	Programs        Programs

	publishing sync.Mutex
	published  *hypervisorv1.HostStatus // the last figures; nil = none yet
}

var _ hypervisorv1.HostServiceServer = (*Service)(nil)

// GetCapacity implements HostService.
func (s *Service) GetCapacity(ctx context.Context, _ *hypervisorv1.GetCapacityRequest) (*hypervisorv1.GetCapacityResponse, error) {
	c, err := s.Meter.Capacity(ctx)
	if err != nil {
		return nil, err
	}
	c.TotalVolumeBytes, err = volumeBytes(s.VolumeDirectories)
	return c, err
}

// ListVolumeDirectories implements HostService.
func (s *Service) ListVolumeDirectories(
	_ context.Context, req *hypervisorv1.ListVolumeDirectoriesRequest,
) (*hypervisorv1.ListVolumeDirectoriesResponse, error) {
	dirs, next, err := page.Cut(s.VolumeDirectories, req.GetPageSize(), req.GetPageToken(), func(d string) string { return d })
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListVolumeDirectoriesResponse{Directories: dirs, NextPageToken: next}, nil
}

// volumeBytes returns the size of the file systems that hold the directories, each counted once.
func volumeBytes(dirs []string) (uint64, error) {
	var total uint64
	seen := make(map[unix.Fsid]bool)
	for _, d := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(d, &st); err != nil {
			return 0, fault.Wrap(err, "volume directory %s", d)
		}
		if !seen[st.Fsid] {
			seen[st.Fsid] = true
			total += st.Blocks * uint64(st.Bsize)
		}
	}
	return total, nil
}

// Run publishes the host's figures until ctx ends: at once, and whenever they have changed.
func (s *Service) Run(ctx context.Context) error {
	_, sub := s.Feed.Subscribe(0)
	defer sub.Close()
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		s.publish(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-sub.Ready():
			if u := sub.Take(); len(u.GetVms())+len(u.GetDeletedVms()) == 0 {
				continue
			}
		}
	}
}

// publish tells the watchers the host's figures if they have changed. Where they are not known it tells at least whether the host is disabled.
func (s *Service) publish(ctx context.Context) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	status, err := s.status(ctx)
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "host figures not known", slog.Any("error", err))
		if s.published == nil {
			return
		}
		status = proto.CloneOf(s.published)
	}
	status.Disabled = s.Switch.Disabled()
	if !proto.Equal(status, s.published) {
		s.published = status
		s.Feed.SetHost(status)
	}
}

func (s *Service) status(ctx context.Context) (*hypervisorv1.HostStatus, error) {
	host, err := s.Driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.GetCapacity(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.HostStatus{
		AvailableMemoryInMib: c.GetAvailableMemoryInMib(), MemoryInMib: c.GetMemoryInMib(), NumCpus: c.GetNumCpus(),
		TotalVolumeBytes: c.GetTotalVolumeBytes(), HealthStatus: "healthy", SerialNumber: serialNumber(),
		ArchitectureType: hypervisorv1.ArchitectureType(host.Arch),
	}, nil
}

// serialNumber is what the firmware says, if it can be read and says anything.
func serialNumber() string {
	raw, err := os.ReadFile("/sys/class/dmi/id/product_serial")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
