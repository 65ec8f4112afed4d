package legacy

import (
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// appliances serves HyperSDK's paths of whole machines: batches, clones, templates, ISO images, backups, and the pages of consoles.
type appliances struct {
	virt hypervisorv1.VirtualisationServiceClient
	app  hypervisorv1.ApplianceServiceClient
}

// registerAppliances adds the paths to the mux.
func registerAppliances(mux *http.ServeMux, cc grpc.ClientConnInterface) {
	a := &appliances{hypervisorv1.NewVirtualisationServiceClient(cc), hypervisorv1.NewApplianceServiceClient(cc)}
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"POST /libvirt/batch/start":    post(a.batchStart),
		"POST /libvirt/batch/stop":     post(a.batchStop),
		"POST /libvirt/batch/reboot":   post(a.batchReboot),
		"POST /libvirt/batch/pause":    post(a.batchPause),
		"POST /libvirt/batch/resume":   post(a.batchResume),
		"POST /libvirt/batch/snapshot": post(a.batchSnapshot),
		"POST /libvirt/batch/delete":   post(a.batchDelete),

		"POST /libvirt/clone":          post(a.clone),
		"POST /libvirt/clone/multiple": post(a.cloneMany),

		"POST /libvirt/template/create": post(a.createTemplate),
		"POST /libvirt/template/deploy": post(a.deployTemplate),
		"GET /libvirt/template/list":    get(a.listTemplates),
		"POST /libvirt/template/export": post(a.exportTemplate),
		"POST /libvirt/template/delete": post(a.deleteTemplate),

		"GET /libvirt/isos/list":          get(a.listISOs),
		"POST /libvirt/isos/upload":       a.uploadISO,
		"POST /libvirt/isos/delete":       post(a.deleteISO),
		"POST /libvirt/domain/attach-iso": post(a.attachISO),
		"POST /libvirt/domain/detach-iso": post(a.detachISO),

		"POST /libvirt/backup/create":  post(a.createBackup),
		"GET /libvirt/backup/list":     a.listBackups,
		"POST /libvirt/backup/restore": post(a.restoreBackup),
		"POST /libvirt/backup/verify":  post(a.verifyBackup),
		"POST /libvirt/backup/delete":  post(a.deleteBackup),
	} {
		mux.Handle(pattern, handler(f))
	}
	mux.Handle("GET /console/vnc", raw(a.vncPage))
	mux.Handle("GET /console/serial", raw(a.serialPage))
}

// last reads a stream of progress to its last message.
func last[M interface{ GetFinal() bool }](stream interface{ Recv() (M, error) }, err error) (M, error) {
	var none M
	if err != nil {
		return none, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return none, fault.New(fault.Internal, "the work ended without a result")
		}
		if err != nil || m.GetFinal() {
			return m, err
		}
	}
}

// madeView is a machine that was made.
type madeView struct {
	Name      string   `json:"name"`
	UUID      string   `json:"uuid"`
	Managed   bool     `json:"managed"`
	IPAddress string   `json:"vm_ip_address,omitempty"`
	Files     []string `json:"files"`
}

func madeViewOf(d *hypervisorv1.MadeDomain) madeView {
	return madeView{d.GetName(), d.GetUuid(), d.GetManaged(), d.GetVmIpAddress(), append([]string{}, d.GetFiles()...)}
}
