package legacy

import (
	"path/filepath"
	"strings"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// definition is HyperSDK's JobDefinition, with the fields that its documents send though its code dropped them (provider, compression,
// incremental), and with what Hyperplane adds (libvirt).
type definition struct {
	ID           string         `json:"id,omitempty"`
	Name         string         `json:"name,omitempty"`
	Provider     string         `json:"provider,omitempty"`
	VMPath       string         `json:"vm_path"`
	OutputPath   string         `json:"output_path,omitempty"`
	OutputDir    string         `json:"output_dir,omitempty"`
	VCenterURL   string         `json:"vcenter_url,omitempty"`
	VCenter      *vcenter       `json:"vcenter,omitempty"`
	Username     string         `json:"username,omitempty"`
	Password     string         `json:"password,omitempty"`
	Insecure     bool           `json:"insecure,omitempty"`
	Datacenter   string         `json:"datacenter,omitempty"`
	Format       string         `json:"format,omitempty"`
	ExportMethod string         `json:"export_method,omitempty"`
	Method       string         `json:"method,omitempty"`
	Compress     bool           `json:"compress,omitempty"`
	Compression  bool           `json:"compression,omitempty"`
	Thin         bool           `json:"thin,omitempty"`
	Incremental  bool           `json:"incremental,omitempty"`
	Options      *options       `json:"options,omitempty"`
	CreatedAt    string         `json:"created_at,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	Libvirt      *libvirt       `json:"libvirt,omitempty"`
}

type vcenter struct {
	Server   string `json:"server"`
	Username string `json:"username"`
	Password string `json:"password,omitempty"`
	Insecure bool   `json:"insecure,omitempty"`
	// CAPEM and Thumbprint are Hyperplane's: how to trust a vCenter whose certificate no public CA signed.
	CAPEM      string `json:"ca_pem,omitempty"`
	Thumbprint string `json:"thumbprint,omitempty"`
}

// options are those of HyperSDK that mean anything here; the others were for its external tools.
type options struct {
	ParallelDownloads uint32 `json:"parallel_downloads,omitempty"`
	RemoveCDROM       bool   `json:"remove_cdrom,omitempty"`
	Quiesce           bool   `json:"quiesce,omitempty"`
}

// libvirt makes the export a VM of this host.
type libvirt struct {
	Name       string            `json:"name,omitempty"`
	SubnetID   string            `json:"subnet_id,omitempty"`
	NetworkMap map[string]string `json:"network_map,omitempty"`
	Start      bool              `json:"start,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// spec translates the definition. What can not be done is an error that names the field.
func (d *definition) spec() (_ *exportv1.JobSpec, err error) {
	if err := d.refuse(); err != nil {
		return nil, err
	}
	e := &exportv1.ExportSpec{Source: d.source(), Vm: d.VMPath, Compress: d.Compress || d.Compression}
	if e.Format, err = diskFormat("format", d.Format); err != nil {
		return nil, err
	}
	if d.Options != nil {
		e.ParallelDisks, e.Quiesce = d.Options.ParallelDownloads, d.Options.Quiesce
	}
	output := d.OutputDir
	if output == "" {
		output = d.OutputPath
	}
	switch {
	case d.Libvirt != nil && output != "":
		return nil, fault.New(fault.InvalidArgument, "libvirt: a job has one destination; leave output_path away")
	case d.Libvirt != nil:
		e.Destination = &exportv1.ExportSpec_Libvirt{Libvirt: &exportv1.LibvirtDestination{
			Hostname: d.Libvirt.Name, SubnetId: d.Libvirt.SubnetID, NetworkMap: d.Libvirt.NetworkMap, Start: d.Libvirt.Start, Tags: d.Libvirt.Tags,
		}}
	case output == "":
		return nil, fault.New(fault.InvalidArgument, "output_path: is missing")
	default:
		e.Destination = &exportv1.ExportSpec_Directory{Directory: &exportv1.DirectoryDestination{Path: output}}
	}
	return &exportv1.JobSpec{Work: &exportv1.JobSpec_Export{Export: e}}, nil
}

// diskFormat reads a format's name; empty is the server's default. HyperSDK calls a VMDK with its descriptor ovf.
func diskFormat(field, name string) (exportv1.DiskFormat, error) {
	switch name = strings.ToLower(name); name {
	case "":
		return exportv1.DiskFormat_DISK_FORMAT_UNSPECIFIED, nil
	case "ovf":
		name = "vmdk"
	case "vpc":
		name = "vhd"
	}
	f, ok := enumtext.Parse[exportv1.DiskFormat](name)
	if !ok {
		return 0, fault.New(fault.InvalidArgument, "%s: %q is not one of %s", field, name, strings.Join(enumtext.Words(f.Descriptor()), ", "))
	}
	return f, nil
}

// refuse names the fields that ask for what is not done here.
func (d *definition) refuse() error {
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"incremental", d.Incremental},
		{"thin", d.Thin},
		{"datacenter", d.Datacenter != ""},
		{"metadata", len(d.Metadata) > 0},
		{"created_at", d.CreatedAt != ""},
		{"options.remove_cdrom", d.Options != nil && d.Options.RemoveCDROM},
		{"export_method", d.ExportMethod != "" && d.ExportMethod != "web"},
		{"method", d.Method != "" && d.Method != "web"},
	} {
		if f.set {
			return fault.New(fault.Unimplemented, "%s: is not available; leave it away", f.field)
		}
	}
	if d.OutputDir != "" && d.OutputPath != "" && filepath.Clean(d.OutputDir) != filepath.Clean(d.OutputPath) {
		return fault.New(fault.InvalidArgument, "output_dir: differs from output_path; give one of them")
	}
	return nil
}

// source returns the vCenter of the job; nil = the daemon's own.
func (d *definition) source() *exportv1.Source {
	v := vcenter{Server: d.VCenterURL, Username: d.Username, Password: d.Password, Insecure: d.Insecure}
	if d.VCenter != nil {
		v = *d.VCenter
	}
	if v.Server == "" && v.Username == "" {
		return nil
	}
	url := v.Server
	if url != "" && !strings.Contains(url, "://") {
		url = "https://" + url + "/sdk"
	}
	return &exportv1.Source{
		Provider: d.Provider, Url: url, Username: v.Username, Password: v.Password, InsecureSkipVerify: v.Insecure, CaPem: v.CAPEM,
		Thumbprint: v.Thumbprint,
	}
}

// definitionOf is the definition as jobs show it: never with a password.
func definitionOf(j *exportv1.Job) *definition {
	e := j.GetSpec().GetExport()
	d := &definition{ID: j.GetId(), Name: j.GetName(), VMPath: e.GetVm(), Format: formatText(e.GetFormat()), Compress: e.GetCompress()}
	if s := e.GetSource(); s.GetUrl() != "" {
		d.Provider = s.GetProvider()
		d.VCenter = &vcenter{Server: s.GetUrl(), Username: s.GetUsername(), Insecure: s.GetInsecureSkipVerify()}
	}
	if o := e.GetDirectory(); o != nil {
		d.OutputPath, d.OutputDir = o.GetPath(), o.GetPath()
	}
	if l := e.GetLibvirt(); l != nil {
		d.Libvirt = &libvirt{Name: l.GetHostname(), SubnetID: l.GetSubnetId(), NetworkMap: l.GetNetworkMap(), Start: l.GetStart(), Tags: l.GetTags()}
	}
	return d
}

func formatText(f exportv1.DiskFormat) string {
	return strings.ToLower(strings.TrimPrefix(f.String(), "DISK_FORMAT_"))
}
