// Package config reads the daemon's settings: defaults, then a YAML file, then the environment. Flags are the caller's business and win over
// all. The file's keys are snake_case; the CamelCase keys of HyperSDK's files are accepted for the settings both have. An unknown key is an
// error with file and line.
package config

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Secret is a text that is never printed.
type Secret string

// String returns stars.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString returns stars.
func (s Secret) GoString() string { return s.String() }

// MarshalText returns stars.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Config are the daemon's settings.
type Config struct {
	// StateDir holds everything the daemon keeps. Socket is the local admin door; empty = none.
	StateDir string `yaml:"state_dir"`
	Socket   string `yaml:"socket"`
	// Listen are the addresses that every protocol is served on.
	Listen []string `yaml:"listen"`
	// DaemonAddr is HyperSDK's name for listen with one address.
	DaemonAddr string `yaml:"daemon_addr"`
	// TLSNames are further names and addresses in the server's certificate.
	TLSNames []string `yaml:"tls_names"`
	// CertFile and KeyFile are the server's certificate, PEM; empty = one that the daemon's own CA signs.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile are CAs whose client certificates are believed, method lists included; IdentityCAFile those believed for names only.
	ClientCAFile   string `yaml:"client_ca_file"`
	IdentityCAFile string `yaml:"identity_ca_file"`
	// AllowPlain accepts connections without TLS from other hosts.
	AllowPlain bool `yaml:"allow_plain"`
	// AllowUnauthenticatedReads opens the methods marked so in the schema to callers without a credential; OpenMetrics the metrics.
	AllowUnauthenticatedReads bool `yaml:"allow_unauthenticated_reads"`
	// MaxWaitingConnections bounds the connections whose clients have not said who they are; 0 = 2048.
	MaxWaitingConnections int `yaml:"max_waiting_connections"`
	// Bridges are existing bridges for subnets that the API adds, by the subnets' ids: fleet managers call a subnet managed whose addresses they give out, and
	// expect it on a bridge that the hosts share.
	Bridges map[string]string `yaml:"bridges"`
	// LegacyAccess lets every user probe the ports of a VM and read its storage configuration, the names of its logs and its last patch log, as on
	// hypervisors of old; otherwise its owners.
	LegacyAccess bool `yaml:"legacy_access"`
	OpenMetrics  bool `yaml:"open_metrics"`
	// IdentityProvider is the address of the service that gives VMs their identities, http or https; empty = none.
	IdentityProvider string `yaml:"identity_provider"`
	// IdentityProviderCAFile are the CAs by which the provider is believed, PEM; empty = the system's.
	IdentityProviderCAFile string `yaml:"identity_provider_ca_file"`
	// PowerOffCommand is the program that powers the host off, with its arguments. Default: systemctl poweroff; none with the fake hypervisor.
	PowerOffCommand []string `yaml:"power_off_command"`
	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `yaml:"log_level"`
	LogFormat string `yaml:"log_format"`

	Hypervisor Hypervisor `yaml:"hypervisor"`
	Peers      Peers      `yaml:"peers"`
	Subnets    []Subnet   `yaml:"subnets"`
	// Uplink is the network interface that carries the VLANs of subnets; empty = subnets can have none.
	Uplink string `yaml:"uplink"`
	// VolumeDir holds the VMs' volumes (default: below the state directory), ImageDir the images that file URLs may name.
	VolumeDir string `yaml:"volume_dir"`
	ImageDir  string `yaml:"image_dir"`
	// MoreVolumeDirs hold volumes too, each on a storage device of its own: storage index 1 and so on.
	MoreVolumeDirs []string `yaml:"more_volume_dirs"`
	// ImageStoreDir holds the images that the host has by name (default: below the state directory).
	ImageStoreDir string `yaml:"image_store_dir"`
	// BackupDir, ISODir and TemplateDir hold backups of machines, ISO images for their CD drives, and machines that others are made of (defaults: below the state
	// directory).
	BackupDir   string `yaml:"backup_dir"`
	ISODir      string `yaml:"iso_dir"`
	TemplateDir string `yaml:"template_dir"`

	// JobConcurrency is how many jobs run at once, DownloadWorkers how many disks one job reads at once (0 = the provider's default).
	JobConcurrency  int    `yaml:"job_concurrency"`
	DownloadWorkers int    `yaml:"download_workers"`
	DefaultFormat   string `yaml:"default_format"`
	// EnableCBT is accepted for HyperSDK's files; the daemon says at start that it has no effect yet.
	EnableCBT bool `yaml:"enable_cbt"`

	// The vCenter that jobs use if they name none.
	VCenterURL string `yaml:"vcenter_url"`
	Username   string `yaml:"username"`
	Password   Secret `yaml:"password"`
	Insecure   bool   `yaml:"insecure"`
	CAFile     string `yaml:"ca_file"`
	Thumbprint string `yaml:"thumbprint"`
}

// Hypervisor says how VMs are run.
type Hypervisor struct {
	// Driver is libvirt, or fake for trying the API without VMs.
	Driver string `yaml:"driver"`
	// Socket is libvirtd's socket.
	Socket string `yaml:"socket"`
	// Accel is auto, kvm or tcg (software emulation).
	Accel string `yaml:"accel"`
	// RunDir holds the sockets of serial ports and displays.
	RunDir string `yaml:"run_dir"`
	// LogDir is where libvirt writes the logs of machines.
	LogDir string `yaml:"log_dir"`
}

// Peers is how this host proves itself to other hosts, from which VMs come here, and by which CAs it believes them. All are PEM files. The certificate needs
// the right to PrepareVmForMigration there.
type Peers struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"`
	// Protocol is what other hosts speak: grpc (they are Hyperplane), srpc (of the Dominator ecosystem) or auto, which finds out for each.
	Protocol string `yaml:"protocol"`
}

// The protocols of other hosts.
const (
	ProtocolAuto = "auto"
	ProtocolGRPC = "grpc"
	ProtocolSRPC = "srpc"
)

// Subnet is a subnet for VMs.
type Subnet struct {
	ID     string `yaml:"id"`
	Bridge string `yaml:"bridge"`
	// Existing bridges are not made by the daemon.
	Existing bool         `yaml:"existing"`
	Gateway  netip.Prefix `yaml:"gateway"`
	First    netip.Addr   `yaml:"first"`
	Last     netip.Addr   `yaml:"last"`
	Domain   string       `yaml:"domain"`
	DNS      []netip.Addr `yaml:"dns"`
	// Gateway6 is the router's IPv6 address with the prefix length, DNS6 are the IPv6 name servers; none = the subnet has no IPv6.
	Gateway6 netip.Prefix `yaml:"ipv6_gateway"`
	DNS6     []netip.Addr `yaml:"ipv6_dns"`
	Isolated bool         `yaml:"isolated"`
	// AllowedUsers and AllowedGroups may create VMs in it; nobody named = everybody.
	AllowedUsers  []string `yaml:"allowed_users"`
	AllowedGroups []string `yaml:"allowed_groups"`
	// DHCP says who leases the addresses: hyperplane, virtualiser or none. Empty: none on an existing bridge, otherwise hyperplane if the daemon is in the
	// virtualiser's network namespace, otherwise virtualiser.
	DHCP string `yaml:"dhcp"`
	// DynamicFirst and DynamicLast bound the addresses for machines that are no VMs.
	DynamicFirst netip.Addr `yaml:"dynamic_first"`
	DynamicLast  netip.Addr `yaml:"dynamic_last"`
	// VLAN of the uplink is joined to the bridge; 0 = none.
	VLAN            uint32            `yaml:"vlan"`
	DisableMetadata bool              `yaml:"disable_metadata"`
	Tags            map[string]string `yaml:"tags"`
	// Managed is not for the configuration: it says how the API calls a subnet.
	Managed bool `yaml:"-"`
}

// Default returns the settings of a daemon that was told nothing.
func Default() Config {
	return Config{
		StateDir: "/var/lib/hyperplane", Socket: "/run/hyperplane/hypervisord.sock",
		Listen:   []string{":8080", ":6976"},
		LogLevel: "info", LogFormat: "text",
		Hypervisor:     Hypervisor{Driver: "libvirt", Socket: "/run/libvirt/libvirt-sock", Accel: "auto", RunDir: "/run/hyperplane/vms", LogDir: "/var/log/libvirt/qemu"},
		JobConcurrency: 2, DefaultFormat: "qcow2",
		Subnets: []Subnet{{
			ID: "default", Bridge: "hyperplane0", Gateway: netip.MustParsePrefix("10.88.0.1/24"),
			First: netip.MustParseAddr("10.88.0.10"), Last: netip.MustParseAddr("10.88.0.250"), Domain: "hyperplane.internal",
		}},
	}
}

// Load returns the defaults, changed by the file (empty = none) and the environment.
func Load(path string, getenv func(string) string) (Config, error) {
	c := Default()
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fault.Wrap(err, "configuration")
		}
		if err := c.decode(path, raw); err != nil {
			return c, err
		}
	}
	return c, c.environment(getenv)
}

func (c *Config) decode(path string, raw []byte) error {
	raw, err := snakeCaseKeys(raw)
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "configuration %s", path)
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidArgument, "configuration %s: %s", path, strings.ReplaceAll(err.Error(), " in type config.Config", ""))
	}
	if c.DaemonAddr != "" {
		c.Listen = []string{c.DaemonAddr}
	}
	return nil
}

// environment applies the variables that HyperSDK and govc users have set.
func (c *Config) environment(getenv func(string) string) error {
	for name, into := range map[string]*string{
		"GOVC_URL": &c.VCenterURL, "GOVC_USERNAME": &c.Username, "GOVC_TLS_CA_CERTS": &c.CAFile, "LOG_LEVEL": &c.LogLevel,
	} {
		if v := getenv(name); v != "" {
			*into = v
		}
	}
	if v := getenv("GOVC_PASSWORD"); v != "" {
		c.Password = Secret(v)
	}
	if v := getenv("DAEMON_ADDR"); v != "" {
		c.Listen = []string{v}
	}
	if v := getenv("GOVC_INSECURE"); v != "" {
		insecure, err := strconv.ParseBool(v)
		if err != nil {
			return fault.New(fault.InvalidArgument, "GOVC_INSECURE: %q is not true or false", v)
		}
		c.Insecure = insecure
	}
	if v := getenv("DOWNLOAD_WORKERS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fault.New(fault.InvalidArgument, "DOWNLOAD_WORKERS: %q is not a number", v)
		}
		c.DownloadWorkers = n
	}
	return nil
}

// Validate says what is wrong with the settings, and fills in those that follow from others.
func (c *Config) Validate() error {
	if !filepath.IsAbs(c.StateDir) {
		return fault.New(fault.InvalidArgument, "state_dir: %q is not an absolute path", c.StateDir)
	}
	if c.VolumeDir == "" {
		c.VolumeDir = filepath.Join(c.StateDir, "volumes")
	}
	if c.ImageDir == "" {
		c.ImageDir = filepath.Join(c.StateDir, "images")
	}
	if c.ImageStoreDir == "" {
		c.ImageStoreDir = filepath.Join(c.StateDir, "image-store")
	}
	for dir, name := range map[*string]string{&c.BackupDir: "backups", &c.ISODir: "iso", &c.TemplateDir: "templates"} {
		if *dir == "" {
			*dir = filepath.Join(c.StateDir, name)
		}
	}
	if err := c.checkDirectories(); err != nil {
		return err
	}
	if c.Peers.Protocol == "" {
		c.Peers.Protocol = ProtocolAuto
	}
	for key, check := range map[string]struct {
		value   string
		allowed []string
	}{
		"log_level":         {c.LogLevel, []string{"debug", "info", "warn", "error"}},
		"log_format":        {c.LogFormat, []string{"text", "json"}},
		"hypervisor.driver": {c.Hypervisor.Driver, []string{"libvirt", "fake"}},
		"hypervisor.accel":  {c.Hypervisor.Accel, []string{"auto", "kvm", "tcg"}},
		"peers.protocol":    {c.Peers.Protocol, []string{ProtocolAuto, ProtocolGRPC, ProtocolSRPC}},
		"default_format":    {c.DefaultFormat, []string{"qcow2", "raw", "vmdk", "vhd", "vhdx", "vdi"}},
	} {
		if !slices.Contains(check.allowed, check.value) {
			return fault.New(fault.InvalidArgument, "%s: %q is not one of %s", key, check.value, strings.Join(check.allowed, ", "))
		}
	}
	if c.MaxWaitingConnections < 0 {
		return fault.New(fault.InvalidArgument, "max_waiting_connections: %d is negative", c.MaxWaitingConnections)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fault.New(fault.InvalidArgument, "give both cert_file and key_file")
	}
	if p := c.Peers; (p.CertFile == "") != (p.KeyFile == "") {
		return fault.New(fault.InvalidArgument, "peers: give both cert_file and key_file")
	}
	if c.JobConcurrency < 1 || c.DownloadWorkers < 0 {
		return fault.New(fault.InvalidArgument, "job_concurrency must be at least 1 and download_workers at least 0")
	}
	if len(c.Listen) == 0 && c.Socket == "" {
		return fault.New(fault.InvalidArgument, "listen and socket: both are empty, so nobody could reach the daemon")
	}
	if c.PowerOffCommand == nil && c.Hypervisor.Driver != "fake" { // whoever tries the API must not find his computer off
		c.PowerOffCommand = []string{"systemctl", "poweroff"}
	}
	return checkProvider(c.IdentityProvider)
}

// checkDirectories refuses relative paths, and one directory for two storage devices.
func (c *Config) checkDirectories() error {
	seen := make(map[string]bool)
	for _, dir := range append([]string{c.VolumeDir, c.ImageDir, c.ImageStoreDir, c.BackupDir, c.ISODir, c.TemplateDir}, c.MoreVolumeDirs...) {
		if dir = filepath.Clean(dir); !filepath.IsAbs(dir) || seen[dir] {
			return fault.New(fault.InvalidArgument, "volume_dir, more_volume_dirs, image_dir, image_store_dir, backup_dir, iso_dir, template_dir: %q is not an absolute path, or is given twice", dir)
		}
		seen[dir] = true
	}
	return nil
}

func checkProvider(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		return fault.New(fault.InvalidArgument, "identity_provider: is not an http or https URL without a user")
	}
	return nil
}
