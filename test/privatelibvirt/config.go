package privatelibvirt

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// qemuConf lets QEMU run as root on files of any owner: inside the namespaces there is nobody to protect from whom.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = [%s]
`

// libvirtdConf needs its own host UUID: two libvirts of one host would otherwise refuse to migrate between each other.
const libvirtdConf = `auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
host_uuid = "%s"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`

const virtlogdConf = `log_outputs = "3:file:/var/log/libvirt/virtlogd.log"
`

// writeConfig makes the folders of an instance and writes its configuration. A host UUID from an earlier run is kept.
func writeConfig(dir string, opts Options) error {
	for _, folder := range []string{"etc", "run", "lib", "lib/dnsmasq", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return err
		}
	}
	hostUUID, err := keptUUID(filepath.Join(dir, "host-uuid"))
	if err != nil {
		return err
	}
	controllers := make([]string, len(opts.CgroupControllers))
	for i, name := range opts.CgroupControllers {
		controllers[i] = strconv.Quote(name)
	}
	for name, text := range map[string]string{
		"qemu.conf":     fmt.Sprintf(qemuConf, strings.Join(controllers, ", ")),
		"libvirtd.conf": fmt.Sprintf(libvirtdConf, hostUUID),
		"virtlogd.conf": virtlogdConf,
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func keptUUID(file string) (string, error) {
	kept, err := os.ReadFile(file)
	if err == nil {
		return string(kept), nil
	}
	if !os.IsNotExist(err) {
		return "", err
	}
	id := uuid.NewString()
	return id, os.WriteFile(file, []byte(id), 0o600)
}
