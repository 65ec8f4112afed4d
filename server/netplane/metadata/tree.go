package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

// leaf returns the content of one path; found is false if this VM has no such thing.
type leaf func() (content []byte, found bool, err error)

// read returns the content of a path: a leaf, a list of all leaves, or a list of a folder's children.
func (s *Service) read(info *hypervisorv1.VmInfo, path string) (content []byte, found bool, err error) {
	tree := s.tree(info)
	if path == "/*" {
		return s.list(tree)
	}
	// Versions of EC2's interface are dates; ours has one.
	if l, ok := tree[path]; ok {
		return l()
	}
	children, err := childrenOf(tree, strings.TrimSuffix(path, "/")+"/")
	return children, len(children) > 0, err
}

// list returns all paths that this VM has.
func (s *Service) list(tree map[string]leaf) (content []byte, found bool, err error) {
	var all []string
	for path, l := range tree {
		_, has, err := l()
		if err != nil {
			return nil, false, err
		}
		if has {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return lines(all), true, nil
}

func childrenOf(tree map[string]leaf, folder string) ([]byte, error) {
	var names []string
	for path, l := range tree {
		rest, below := strings.CutPrefix(path, folder)
		if !below {
			continue
		}
		if _, has, err := l(); err != nil || !has {
			if err != nil {
				return nil, err
			}
			continue
		}
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			rest = rest[:i+1]
		}
		names = append(names, rest)
	}
	slices.Sort(names)
	return lines(slices.Compact(names)), nil
}

func lines(all []string) []byte {
	var b bytes.Buffer
	for _, l := range all {
		fmt.Fprintln(&b, l)
	}
	return b.Bytes()
}

// text is a leaf; without a text the VM does not have it.
func text(t string) leaf {
	return func() ([]byte, bool, error) { return []byte(t), t != "", nil }
}

// tree holds everything that a VM can ask for.
func (s *Service) tree(info *hypervisorv1.VmInfo) map[string]leaf {
	userData := s.file(info, userdata.File)
	tree := map[string]leaf{
		"/datasource/SmallStack":                     text("true\n"),
		"/latest/dynamic/epoch-time":                 func() ([]byte, bool, error) { return s.epochTime(), true, nil },
		"/latest/dynamic/instance-identity/document": func() ([]byte, bool, error) { d, err := s.Document(info); return d, err == nil, err },
		"/latest/user-data":                          userData,
		"/latest/is-externally-patchable":            text(fmt.Sprintln(patchable(info))),
		"/nocloud/user-data":                         userData,
		"/nocloud/vendor-data":                       func() ([]byte, bool, error) { return nil, true, nil }, // cloud-init wants it, also empty
		"/nocloud/meta-data":                         text(noCloudMetaData(info)),
		"/nocloud/network-config":                    text(noCloudNetwork(info)),
	}
	for name, value := range map[string]string{
		"instance-id": info.GetUuid(), "local-hostname": info.GetHostname(), "hostname": info.GetHostname(),
		"local-ipv4": info.GetAddress().GetIpAddress(), "ipv6": info.GetAddress().GetIpv6Address(), "mac": info.GetAddress().GetMacAddress(), "ami-id": image(info),
	} {
		tree["/latest/meta-data/"+name] = text(value)
	}
	s.identity(info, tree)
	s.sshCertificate(info, tree)
	return tree
}

// file is a file in the VM's folder.
func (s *Service) file(info *hypervisorv1.VmInfo, name string) leaf {
	return func() ([]byte, bool, error) {
		dir, err := s.Folder(info.GetUuid())
		if err != nil {
			return nil, false, err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil
		}
		return content, err == nil, err
	}
}

// epochTime is the time in seconds since 1970 with nine decimals.
func (s *Service) epochTime() []byte {
	now := s.Now()
	return fmt.Appendf(nil, "%d.%09d\n", now.Unix(), now.Nanosecond())
}

// patchable says whether PatchVmImage can change the VM's root from outside, so that the guest need not do it itself: the root is raw, its image has a
// name, and its owner did not forbid it.
func patchable(info *hypervisorv1.VmInfo) bool {
	_, forbidden := info.GetTags()["DisableUpdates"]
	return !forbidden && info.GetImageName() != "" && len(info.GetVolumes()) > 0 &&
		info.GetVolumes()[0].GetFormat() != hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2
}

func image(info *hypervisorv1.VmInfo) string {
	return info.GetImageName() // a URL may hold a password
}

// noCloudMetaData is what cloud-init's NoCloud source wants to know, YAML. Both values are made of letters, digits, dots and hyphens.
func noCloudMetaData(info *hypervisorv1.VmInfo) string {
	t := fmt.Sprintf("instance-id: %q\n", info.GetUuid())
	if info.GetHostname() != "" {
		t += fmt.Sprintf("local-hostname: %q\n", info.GetHostname())
	}
	return t
}

// noCloudNetwork is cloud-init's network configuration, version 2: DHCP on every card, and DHCPv6 on those with an IPv6 address.
func noCloudNetwork(info *hypervisorv1.VmInfo) string {
	var t strings.Builder
	t.WriteString("version: 2\nethernets:\n")
	for i, a := range append([]*hypervisorv1.Address{info.GetAddress()}, info.GetSecondaryAddresses()...) {
		fmt.Fprintf(&t, "  card%d:\n    match:\n      macaddress: %q\n    dhcp4: true\n", i, a.GetMacAddress())
		if a.GetIpv6Address() != "" {
			t.WriteString("    dhcp6: true\n")
		}
	}
	return t.String()
}
