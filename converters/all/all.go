// Package all is the list of disk formats. A format is one line here and one folder beside this one.
package all

import (
	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/internal/foreign"
	"github.com/hyperplane-project/hyperplane/converters/ova"
	"github.com/hyperplane-project/hyperplane/converters/qcow"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
	"github.com/hyperplane-project/hyperplane/converters/vhd"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// Formats returns all formats in the order of detection: those with a magic at their beginning, then vhd, which may have one at its end only, those that
// are only recognised, and raw last.
func Formats() converters.Formats {
	f := converters.Formats{
		qcow2.Format(),
		qcow.Format(),
		vmdk.Format(),
		vhdx.Format(),
		vdi.Format(),
		ova.Format(vmdk.Format(), qcow2.Format(), vhd.Format(), vhdx.Format(), vdi.Format()),
		vhd.Format(),
	}
	f = append(f, foreign.Formats()...)
	return append(f, raw.Format())
}
