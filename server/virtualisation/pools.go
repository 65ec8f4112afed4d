package virtualisation

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListStoragePools implements VirtualisationService.
func (s *Service) ListStoragePools(ctx context.Context, req *hypervisorv1.ListStoragePoolsRequest) (*hypervisorv1.ListStoragePoolsResponse, error) {
	pools, err := s.Driver.ListPools(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*hypervisorv1.StoragePool, len(pools))
	for i, p := range pools {
		all[i] = describePool(p)
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.StoragePool).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListStoragePoolsResponse{Pools: all, NextPageToken: next}, nil
}

func describePool(p hypervisor.StoragePool) *hypervisorv1.StoragePool {
	return &hypervisorv1.StoragePool{
		Name: p.Name, Uuid: p.UUID, State: hypervisorv1.StoragePoolState(p.State) + 1, // the schema counts from unspecified
		Type: p.Type, Path: p.Path, Capacity: p.Capacity, Allocation: p.Allocation, Available: p.Available, Autostart: p.Autostart, Persistent: p.Persistent,
	}
}

// pool returns a pool.
func (s *Service) pool(ctx context.Context, name string) (*hypervisorv1.StoragePool, error) {
	if name == "" {
		return nil, fault.New(fault.InvalidArgument, "pool: is empty; give the storage pool's name")
	}
	p, err := s.Driver.GetPool(ctx, name)
	if err != nil {
		return nil, err
	}
	return describePool(p), nil
}

// GetStoragePool implements VirtualisationService.
func (s *Service) GetStoragePool(ctx context.Context, req *hypervisorv1.GetStoragePoolRequest) (*hypervisorv1.GetStoragePoolResponse, error) {
	p, err := s.pool(ctx, req.GetPool())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetStoragePoolResponse{Pool: p}, nil
}

// CreateStoragePool implements VirtualisationService.
func (s *Service) CreateStoragePool(ctx context.Context, req *hypervisorv1.CreateStoragePoolRequest) (*hypervisorv1.CreateStoragePoolResponse, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	if err := s.checkPoolPath(req.GetPath()); err != nil {
		return nil, err
	}
	err := s.Driver.CreatePool(ctx, hypervisor.StoragePoolSpec{Name: req.GetName(), Path: req.GetPath(), Autostart: req.GetAutostart()})
	if err != nil {
		return nil, err
	}
	p, err := s.pool(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CreateStoragePoolResponse{Pool: p}, nil
}

// checkPoolPath lets only directories become pools in which nobody has anything yet: what lies in a pool can be read and overwritten through it.
func (s *Service) checkPoolPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || !isText(path) || strings.ContainsAny(path, "\n\t") {
		return fault.New(fault.InvalidArgument, "path: %q is not an absolute path without \"..\" and control characters", path)
	}
	for _, dir := range s.Reserved {
		if dir != "" && (path == dir || strings.HasPrefix(path, dir+"/") || strings.HasPrefix(dir, path+"/")) {
			return fault.New(fault.FailedPrecondition, "path: %s is this hypervisor's own; take another one", path)
		}
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return fault.As(fault.FailedPrecondition, err, "path: %s: make the directory above it first", path)
	}
	if parent != filepath.Dir(path) {
		return fault.New(fault.InvalidArgument, "path: %s leads over a symbolic link to %s; name that", path, filepath.Join(parent, filepath.Base(path)))
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Wrap(err, "path")
	case !info.IsDir():
		return fault.New(fault.InvalidArgument, "path: %s is no directory", path)
	}
	return checkEmpty(path)
}

func checkEmpty(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fault.Wrap(err, "path")
	}
	defer dir.Close() //nolint:errcheck // only read
	switch _, err := dir.ReadDir(1); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fault.Wrap(err, "path")
	default:
		return fault.New(fault.FailedPrecondition, "path: %s is not empty; a pool begins with an empty directory", path)
	}
}

// onPool changes a pool and returns how it is afterwards.
func (s *Service) onPool(ctx context.Context, name string, change func(ctx context.Context, name string) error) (*hypervisorv1.StoragePool, error) {
	if _, err := s.pool(ctx, name); err != nil {
		return nil, err
	}
	if err := change(ctx, name); err != nil {
		return nil, err
	}
	return s.pool(ctx, name)
}

// StartStoragePool implements VirtualisationService.
func (s *Service) StartStoragePool(ctx context.Context, req *hypervisorv1.StartStoragePoolRequest) (*hypervisorv1.StartStoragePoolResponse, error) {
	p, err := s.onPool(ctx, req.GetPool(), s.Driver.StartPool)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StartStoragePoolResponse{Pool: p}, nil
}

// StopStoragePool implements VirtualisationService.
func (s *Service) StopStoragePool(ctx context.Context, req *hypervisorv1.StopStoragePoolRequest) (*hypervisorv1.StopStoragePoolResponse, error) {
	p, err := s.onPool(ctx, req.GetPool(), s.Driver.StopPool)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StopStoragePoolResponse{Pool: p}, nil
}

// RefreshStoragePool implements VirtualisationService.
func (s *Service) RefreshStoragePool(
	ctx context.Context, req *hypervisorv1.RefreshStoragePoolRequest,
) (*hypervisorv1.RefreshStoragePoolResponse, error) {
	p, err := s.onPool(ctx, req.GetPool(), s.Driver.RefreshPool)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RefreshStoragePoolResponse{Pool: p}, nil
}

// DeleteStoragePool implements VirtualisationService.
func (s *Service) DeleteStoragePool(ctx context.Context, req *hypervisorv1.DeleteStoragePoolRequest) (*hypervisorv1.DeleteStoragePoolResponse, error) {
	if _, err := s.pool(ctx, req.GetPool()); err != nil {
		return nil, err
	}
	if err := s.Driver.DeletePool(ctx, req.GetPool()); err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteStoragePoolResponse{}, nil
}
