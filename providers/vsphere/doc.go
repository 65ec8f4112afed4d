// Package vsphere exports VMs from VMware vCenter and ESXi over the vSphere web services API.
//
// A powered-off VM is read through the export lease of the VM itself (ExportVm), any other through the export lease of a snapshot that is
// made for the purpose (ExportSnapshot). The lease names one URL per disk; each gives the disk as a streamOptimized VMDK, from front to
// back. The lease dies unless HttpNfcLeaseProgress is called all the time, so a goroutine of the view does nothing else. A lease that died
// nevertheless is replaced by another one of the same snapshot, or of the VM as long as it is off and unchanged.
//
// The package knows nothing of disk formats, of targets or of jobs: it hands the bytes over as they come. Retries, progress and limits
// over several sessions are the business of the code around a driver. HTTP proxies are not used.
//
// API facts are from the vSphere Web Services API reference (HttpNfcLease, VirtualMachine, VirtualMachineSnapshot, PropertyCollector), as
// repeated in the comments of govmomi's vim25/types.
package vsphere
