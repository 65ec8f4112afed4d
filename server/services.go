package server

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/appliance"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/console"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/host"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/identity"
	"github.com/hyperplane-project/hyperplane/server/image"
	"github.com/hyperplane-project/hyperplane/server/job"
	"github.com/hyperplane-project/hyperplane/server/monitor"
	"github.com/hyperplane-project/hyperplane/server/netplane"
	"github.com/hyperplane-project/hyperplane/server/netplane/metadata"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/snapshot"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/system"
	"github.com/hyperplane-project/hyperplane/server/transfer"
	"github.com/hyperplane-project/hyperplane/server/userdata"
	"github.com/hyperplane-project/hyperplane/server/virtualisation"
	"github.com/hyperplane-project/hyperplane/server/vm"
	"github.com/hyperplane-project/hyperplane/server/vmvolume"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// stageName is the folder below the volume directory in which jobs make the disks of VMs.
const stageName = ".staging"

// services are all services with what they share.
type services struct {
	log       *slog.Logger
	driver    hypervisor.Driver
	registry  *vm.Registry
	vms       *vm.Service
	network   *network.Service
	console   *console.Service
	monitor   *monitor.Service
	host      *host.Service
	jobs      *job.Manager
	job       *job.Service
	discover  *job.Discovery
	images    *job.Images
	guests    *guestfs.Service
	library   *image.Library
	image     *image.Service
	system    *system.Service
	userData  *userdata.Service
	volumes   *vmvolume.Service
	snapshot  *snapshot.Service
	identity  *identity.Service
	transfer  *transfer.Service
	appliance *appliance.Service
	virt      *virtualisation.Service
}

func newServices(ctx context.Context, cfg config.Config, d Deps, st store.Store, f *feed.Feed, draining <-chan struct{}) (*services, error) {
	s := &services{log: d.Log, driver: d.Driver}
	var err error
	if s.registry, err = vm.NewRegistry(ctx, st, f); err != nil {
		return nil, err
	}
	tracer := metadata.NewTracer()
	if s.network, err = network.Open(ctx, network.Deps{
		Log: d.Log, Driver: d.Driver, Feed: f, Store: st, Plane: s.newPlane(cfg, d, tracer), Alive: s.registry.Alive, GivenBridges: cfg.Bridges, Uplink: cfg.Uplink != "", Now: d.Now,
	}, subnets(cfg)); err != nil {
		return nil, err
	}
	s.network.Restore(s.registry.List())
	disabled, err := host.OpenSwitch(ctx, st)
	if err != nil {
		return nil, err
	}
	files := &volume.Maker{Dir: cfg.VolumeDir, MoreDirs: cfg.MoreVolumeDirs, ImageDir: cfg.ImageDir, Formats: d.Formats, Fetch: volume.NewHTTPFetcher()}
	s.userData = &userdata.Service{VMs: s.registry}
	issuer, err := newIssuer(cfg)
	if err != nil {
		return nil, err
	}
	s.identity = &identity.Service{
		VMs: s.registry, Tokens: identity.NewTokens(d.Now), Provider: cfg.IdentityProvider, Issuer: issuer, Log: d.Log, Now: d.Now,
		Key: &identity.HostKey{Path: filepath.Join(cfg.StateDir, "pki", "host.key")},
	}
	s.guests = &guestfs.Service{Programs: procexec.Runner{Log: d.Log}, Self: guestfs.Self()}
	s.vms = vm.New(vm.Deps{
		Log: d.Log, Driver: d.Driver, Registry: s.registry, Network: s.network, Now: d.Now, NewUUID: d.NewUUID,
		Volumes: files, Disabled: disabled.Disabled,
		Identity: s.identity, UserData: s.userData, Guests: s.guests,
		BeforeStart: func(ctx context.Context, r *hypervisorv1.LocalVmInfo) (*hypervisorv1.LocalVmInfo, error) {
			return s.snapshot.Settle(ctx, r)
		},
	})
	s.identity.Operations, s.userData.Operations = s.vms, s.vms
	s.console = &console.Service{VMs: s.registry, Driver: d.Driver}
	s.monitor = &monitor.Service{
		Feed: f, Now: d.Now, Draining: draining, VMs: s.registry, Machines: d.Driver, Folders: s.vms, LogDir: cfg.Hypervisor.LogDir,
		Dial: new(net.Dialer).DialContext, Metadata: tracer, Bridges: s.network.Bridges, Leases: s.network,
	}
	s.volumes = &vmvolume.Service{VMs: s.registry, Operations: s.vms, Files: files, Driver: d.Driver, Filesystems: s.guests, Directories: volumeDirectories(cfg)}
	s.snapshot = &snapshot.Service{VMs: s.registry, Operations: s.vms, Files: files, Driver: d.Driver}
	if err := s.newHost(cfg, d, f, disabled); err != nil {
		return nil, err
	}
	s.transfer = &transfer.Service{
		Log: d.Log, Operations: s.vms, UserData: s.userData, Machines: d.Driver, Files: files, Bridges: s.network, Hosts: hosts{cfg.Peers, d.Log},
		Cookie: s.host.Cookie, Now: d.Now, NewUUID: d.NewUUID,
	}
	s.virt = virtualisation.New(virtualisation.Deps{
		Driver: d.Driver, VMs: s.registry, Operations: s.vms, Snapshots: s.snapshot, Store: st, Bridges: s.network.Bridges, ImageDir: cfg.ImageDir, Now: d.Now,
		Reserved: append([]string{cfg.StateDir, cfg.ImageDir, cfg.ImageStoreDir, cfg.BackupDir, cfg.ISODir, cfg.TemplateDir}, volumeDirectories(cfg)...),
	})
	if err := s.newJobs(ctx, cfg, d, st); err != nil {
		return nil, err
	}
	if err := s.newImages(ctx, cfg, d, st, files); err != nil {
		return nil, err
	}
	if s.appliance, err = appliance.Open(ctx, appliance.Deps{
		Driver: d.Driver, VMs: s.registry, Operations: s.vms, UserData: s.userData, Guests: s.guests, Formats: d.Formats, Store: st, BackupDir: cfg.BackupDir,
		TemplateDir: cfg.TemplateDir, ISODir: cfg.ISODir, StageDir: filepath.Join(cfg.VolumeDir, stageName), ImageDir: cfg.ImageDir, Now: d.Now, NewUUID: d.NewUUID,
	}); err != nil {
		return nil, err
	}
	s.job.Draining = draining
	s.system = &system.Service{
		Version: d.Version, Started: d.Now(), Now: d.Now, VMs: s.registry, Jobs: s.jobs, Driver: d.Driver, Providers: d.Providers.Names(),
		ReadFormats: d.Formats.Readable(), WriteFormats: d.Formats.Writable(),
	}
	return s, nil
}

// newPlane makes what serves subnets on the host's own bridges.
func (s *services) newPlane(cfg config.Config, d Deps, tracer *metadata.Tracer) *netplane.Plane {
	return &netplane.Plane{Log: d.Log, Now: d.Now, Uplink: cfg.Uplink, Metadata: &metadata.Service{
		Log: d.Log, VMs: s.registry, Folder: func(uuid string) (string, error) { return filepath.Join(cfg.VolumeDir, uuid), nil }, Document: vmDocument, Now: d.Now, Tracer: tracer,
	}}
}

func (s *services) newHost(cfg config.Config, d Deps, f *feed.Feed, disabled *host.Switch) error {
	cookie, err := host.MakeRootCookie(filepath.Join(cfg.StateDir, "root-cookie"))
	if err != nil {
		return err
	}
	s.host = &host.Service{
		Log: d.Log, Driver: d.Driver, Meter: s.vms, Feed: f, VolumeDirectories: volumeDirectories(cfg),
		Switch: disabled, Owners: new(host.Owners), Cookie: cookie, VMs: s.registry, Operations: s.vms,
		PowerOffCommand: cfg.PowerOffCommand, Programs: procexec.Runner{Log: d.Log},
	}
	return nil
}

func (s *services) newJobs(ctx context.Context, cfg config.Config, d Deps, st store.Store) error {
	vault, err := job.OpenVault(filepath.Join(cfg.StateDir, "pki", "secrets.key"))
	if err != nil {
		return err
	}
	format := defaultFormat(cfg.DefaultFormat)
	sources := &job.Sources{
		Log: d.Log, Providers: d.Providers, DefaultPassword: string(cfg.Password), DefaultCAFile: cfg.CAFile, Parallel: cfg.DownloadWorkers,
		Default: &exportv1.Source{
			Provider: "vsphere", Url: cfg.VCenterURL, Username: cfg.Username, InsecureSkipVerify: cfg.Insecure, Thumbprint: cfg.Thumbprint,
		},
	}
	workers := &job.Workers{
		Exports: &job.Exports{
			Sources: sources, Machines: s.vms, Formats: d.Formats, DefaultFormat: format, Now: d.Now, StageDir: filepath.Join(cfg.VolumeDir, stageName),
		},
		Converts: &job.Converts{Formats: d.Formats, DefaultFormat: format},
	}
	s.jobs, err = job.NewManager(ctx, job.Config{Concurrency: cfg.JobConcurrency, Now: d.Now, NewID: d.NewUUID}, d.Log, st, vault, workers)
	if err != nil {
		return err
	}
	s.job = &job.Service{Manager: s.jobs}
	s.discover = &job.Discovery{Sources: sources}
	s.images = &job.Images{Manager: s.jobs, Formats: d.Formats}
	return nil
}

func (s *services) newImages(ctx context.Context, cfg config.Config, d Deps, st store.Store, files *volume.Maker) (err error) {
	s.library, err = image.OpenLibrary(ctx, image.Deps{
		Dir: cfg.ImageStoreDir, Store: st, Formats: d.Formats, Fetch: files.Fetch, URLs: files, Jobs: s.jobs, VMs: s.registry, Now: d.Now, NewID: d.NewUUID,
	})
	if err != nil {
		return err
	}
	files.Images = s.library
	s.image = &image.Service{
		Log: d.Log, Operations: s.vms, Volumes: files, Guests: s.guests, Images: s.library, VMs: s.registry, Store: st,
	}
	return s.image.Recover(ctx)
}

// defaultFormat returns the format that the configuration names; it was checked when it was read.
func defaultFormat(name string) exportv1.DiskFormat {
	f, _ := enumtext.Parse[exportv1.DiskFormat](name)
	return f
}

// volumeDirectories are the directories of all storage devices, by their indices.
func volumeDirectories(cfg config.Config) []string {
	return append([]string{cfg.VolumeDir}, cfg.MoreVolumeDirs...)
}

func subnets(cfg config.Config) []network.Subnet {
	var all []network.Subnet
	for _, n := range cfg.Subnets {
		all = append(all, network.Subnet(n))
	}
	return all
}

// register registers every service on a transport. Services of which nothing is built yet answer UNIMPLEMENTED.
func (s *services) register(r grpc.ServiceRegistrar, h *health.Server) {
	hypervisorv1.RegisterVmServiceServer(r, s.vms)
	hypervisorv1.RegisterVmConfigurationServiceServer(r, s.vms)
	hypervisorv1.RegisterVmTransferServiceServer(r, s.transfer)
	hypervisorv1.RegisterPeerServiceServer(r, s.transfer)
	hypervisorv1.RegisterVolumeServiceServer(r, s.volumes)
	hypervisorv1.RegisterImageServiceServer(r, s.image)
	hypervisorv1.RegisterLocalImageServiceServer(r, s.library)
	hypervisorv1.RegisterApplianceServiceServer(r, s.appliance)
	hypervisorv1.RegisterSnapshotServiceServer(r, s.snapshot)
	hypervisorv1.RegisterUserDataServiceServer(r, s.userData)
	hypervisorv1.RegisterIdentityServiceServer(r, s.identity)
	hypervisorv1.RegisterConsoleServiceServer(r, s.console)
	hypervisorv1.RegisterMonitoringServiceServer(r, s.monitor)
	hypervisorv1.RegisterNetworkServiceServer(r, s.network)
	hypervisorv1.RegisterHostServiceServer(r, s.host)
	hypervisorv1.RegisterVirtualisationServiceServer(r, s.virt)
	exportv1.RegisterJobServiceServer(r, s.job)
	exportv1.RegisterDiscoveryServiceServer(r, s.discover)
	exportv1.RegisterImageServiceServer(r, s.images)
	adminv1.RegisterSystemServiceServer(r, s.system)
	healthgrpc.RegisterHealthServer(r, h)
}

// authorizer decides who may act on a VM: its owners, and the bearer of its access token.
func (s *services) authorizer() *identity.Authorizer {
	return &identity.Authorizer{VMs: s.registry, Tokens: s.identity.Tokens, Owners: s.registry}
}

// descriptors are the services of the schema.
func (s *services) descriptors() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, f := range []protoreflect.FileDescriptor{
		hypervisorv1.File_hyperplane_hypervisor_v1_vm_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_vm_configuration_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_vm_transfer_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_peer_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_volume_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_image_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_local_image_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_appliance_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_snapshot_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_user_data_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_identity_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_console_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_monitoring_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_network_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_host_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_virtualisation_service_proto,
		exportv1.File_hyperplane_export_v1_job_service_proto,
		exportv1.File_hyperplane_export_v1_discovery_service_proto,
		exportv1.File_hyperplane_export_v1_image_service_proto,
		adminv1.File_hyperplane_admin_v1_system_service_proto,
	} {
		for i := range f.Services().Len() {
			all = append(all, f.Services().Get(i))
		}
	}
	return all
}

// collect puts the numbers of VMs and jobs by state into the metrics.
func (s *services) collect(r prometheus.Registerer) {
	r.MustRegister(
		byState("hyperplane_vms", "VMs by state.", func(add func(string)) {
			for _, v := range s.registry.List() {
				add(stateText(v.GetState()))
			}
		}),
		byState("hyperplane_jobs", "Jobs by state.", func(add func(string)) {
			for _, j := range s.jobs.List(nil) {
				add(stateText(j.GetState()))
			}
		}))
}

// background runs what must go on while the server serves, until ctx ends.
func (s *services) background(ctx context.Context, log *slog.Logger, run func(name string, f func(context.Context) error)) {
	run("follow the virtualiser", s.vms.Run)
	run("end what was left half-done", s.recover)
	run("host figures", s.host.Run)
	run("network plane", s.network.Run)
	s.identity.Resume(ctx, s.registry.List())
	s.jobs.Start()
	log.LogAttrs(ctx, slog.LevelDebug, "background work started")
}

// close ends what goes on by itself.
func (s *services) close() {
	s.jobs.Close()
	s.vms.Close()
	s.identity.Close()
}
