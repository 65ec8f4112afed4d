// Package vcentersim is a vCenter to test exports against: govmomi's simulator with real bytes behind the disks of its VMs.
//
// On top of the simulator's inventory, tasks, snapshots and properties it serves export leases (ExportVm, ExportSnapshot) whose URLs give
// streamOptimized VMDKs, freezes disk content in snapshots, lets leases die when nobody renews them, checks passwords and session
// cookies, and produces on demand the failures that exports meet: cut and slow connections, wrong digests, expired leases. It records
// what was asked of it, so that a test can assert that nothing was left behind.
//
// It is a server for tests, demonstrations and benchmarks on loopback. It never talks to a real vCenter, and no provider may import it
// outside its tests.
package vcentersim
