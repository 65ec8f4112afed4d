// Command govc is govmomi's own command line client with the commands that the project's tests and benchmarks use as an independent
// peer: export, inventory, power and snapshots. It is built from govmomi's packages at the version that go.mod pins, and is not shipped.
package main

import (
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/about"       // about
	_ "github.com/vmware/govmomi/cli/export"      // export.ovf
	_ "github.com/vmware/govmomi/cli/importx"     // import.ovf, import.vmdk
	_ "github.com/vmware/govmomi/cli/object"      // find, ls, collect
	_ "github.com/vmware/govmomi/cli/vm"          // vm.info, vm.power
	_ "github.com/vmware/govmomi/cli/vm/snapshot" // snapshot.create, snapshot.tree, snapshot.remove
)

func main() {
	os.Exit(cli.Run(os.Args[1:]))
}
