package main

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

// inventory is the content of an inventory file.
type inventory struct {
	VMs []vmSpec `yaml:"vms"`
}

// vmSpec is a VM as a user describes it.
type vmSpec struct {
	Name       string     `yaml:"name"`
	Folder     string     `yaml:"folder"`
	CPUs       int32      `yaml:"cpus"`
	Memory     int64      `yaml:"memory"` // MiB
	Firmware   string     `yaml:"firmware"`
	SecureBoot bool       `yaml:"secureboot"`
	Guest      string     `yaml:"guest"`
	Power      string     `yaml:"power"` // on or off
	Disks      []diskSpec `yaml:"disks"`
	NICs       []nicSpec  `yaml:"nics"`
}

type diskSpec struct {
	File       string `yaml:"file"`
	Bus        string `yaml:"bus"`
	Controller string `yaml:"controller"`
	Mode       string `yaml:"mode"`
	Sharing    string `yaml:"sharing"`
	Thick      bool   `yaml:"thick"`
}

type nicSpec struct {
	MAC     string `yaml:"mac"`
	Model   string `yaml:"model"`
	Network string `yaml:"network"`
}

// specs returns the VMs of the inventory file and of --vm.
func (f flags) specs() ([]vmSpec, error) {
	var all []vmSpec
	if f.inventory != "" {
		specs, err := readInventory(f.inventory)
		if err != nil {
			return nil, err
		}
		all = specs
	}
	for _, text := range f.vms {
		spec, err := parseVM(text)
		if err != nil {
			return nil, err
		}
		all = append(all, spec)
	}
	return all, nil
}

func readInventory(name string) ([]vmSpec, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(err, "--%s", inventoryFlag)
	}
	defer func() { _ = file.Close() }()
	var inv inventory
	dec := yaml.NewDecoder(file)
	dec.KnownFields(true)
	if err := dec.Decode(&inv); err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.As(fault.InvalidArgument, err, "--%s %s", inventoryFlag, name)
	}
	for i := range inv.VMs {
		for j := range inv.VMs[i].Disks {
			if d := &inv.VMs[i].Disks[j]; d.File != "" && !filepath.IsAbs(d.File) {
				d.File = filepath.Join(filepath.Dir(name), d.File)
			}
		}
	}
	return inv.VMs, nil
}

// parseVM reads the value of --vm.
func parseVM(text string) (vmSpec, error) {
	var spec vmSpec
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" {
			return spec, fault.New(fault.InvalidArgument, "--%s %q: %q is not NAME=VALUE", vmFlag, text, pair)
		}
		if err := spec.set(key, value); err != nil {
			return spec, fault.Wrap(err, "--%s %q: %s", vmFlag, text, key)
		}
	}
	return spec, nil
}

func (s *vmSpec) set(key, value string) (err error) {
	switch key {
	case "name":
		s.Name = value
	case "folder":
		s.Folder = value
	case "cpus":
		var n int64
		n, err = strconv.ParseInt(value, 10, 32)
		s.CPUs = int32(n)
	case "memory":
		s.Memory, err = strconv.ParseInt(value, 10, 64)
	case "firmware":
		s.Firmware = value
	case "secureboot":
		s.SecureBoot, err = strconv.ParseBool(value)
	case "guest":
		s.Guest = value
	case "power":
		s.Power = value
	case "disk":
		s.Disks = append(s.Disks, diskSpec{File: value})
	case "mac":
		s.NICs = append(s.NICs, nicSpec{MAC: value})
	default:
		return fault.New(fault.InvalidArgument, "is not known; use name, folder, cpus, memory, firmware, secureboot, guest, power, disk or mac")
	}
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "is not valid")
	}
	return nil
}

// openVMs opens the disks of all VMs.
func openVMs(specs []vmSpec) ([]vcentersim.VM, error) {
	var vms []vcentersim.VM
	for _, s := range specs {
		vm, err := s.open()
		vms = append(vms, vm)
		if err != nil {
			closeDisks(vms)
			return nil, fault.Wrap(err, "vm %q", s.Name)
		}
	}
	return vms, nil
}

func closeDisks(vms []vcentersim.VM) {
	for _, vm := range vms {
		for _, d := range vm.Disks {
			_ = d.Content.Close() // only read
		}
	}
}

func (s vmSpec) open() (vcentersim.VM, error) {
	vm := vcentersim.VM{
		Name: s.Name, Folder: s.Folder, CPUs: s.CPUs, MemoryMB: s.Memory,
		Firmware: s.Firmware, SecureBoot: s.SecureBoot, GuestID: s.Guest,
	}
	switch cmp.Or(s.Power, "off") {
	case "on":
		vm.PoweredOn = true
	case "off":
	default:
		return vm, fault.New(fault.InvalidArgument, "power %q is not on or off", s.Power)
	}
	for _, n := range s.NICs {
		vm.NICs = append(vm.NICs, vcentersim.NIC{MAC: n.MAC, Model: n.Model, Network: n.Network})
	}
	for _, d := range s.Disks {
		disk, err := d.open()
		if err != nil {
			return vm, err
		}
		vm.Disks = append(vm.Disks, disk)
	}
	return vm, nil
}

func (d diskSpec) open() (vcentersim.Disk, error) {
	if d.File == "" {
		return vcentersim.Disk{}, fault.New(fault.InvalidArgument, "a disk has no file")
	}
	file, err := os.Open(d.File)
	if err != nil {
		return vcentersim.Disk{}, fault.Wrap(err, "disk")
	}
	content, err := raw.OpenFile(file)
	if err != nil {
		_ = file.Close()
		return vcentersim.Disk{}, fault.Wrap(err, "disk %s", d.File)
	}
	return vcentersim.Disk{Content: content, Bus: d.Bus, Controller: d.Controller, Mode: d.Mode, Sharing: d.Sharing, Thick: d.Thick}, nil
}
