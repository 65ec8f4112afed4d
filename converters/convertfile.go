package converters

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// ConvertFile copies src into an image at path, as Convert and WriteFiles do together. Out, Sibling and Name of dst are filled in.
//
// With w.Resume an interrupted copy is taken up if sourceID is the same; it says what the source is and must change when its content does (FileIdentity).
// The content's id then follows from it, so that all runs write the same bytes. DiscardPartial removes what an interrupted copy has kept.
func (f Formats) ConvertFile(ctx context.Context, src Source, path, sourceID string, dst Target, o Options, w WriteOptions) (Result, error) {
	var result Result
	checkpoint := checkpointName(path)
	err := WriteFiles(ctx, path, w, func(ctx context.Context, files *Files) (err error) {
		dst.Out, dst.Sibling, dst.Name = files.Main(), files.Sibling, filepath.Base(path)
		if w.Resume {
			o.Checkpoint = &Checkpoint{Path: checkpoint, Source: sourceID}
			sum := sha256.Sum256([]byte(sourceID + "\n" + path))
			copy(dst.ContentID[:], sum[:])
			if err := dropStale(checkpoint, files); err != nil {
				return err
			}
		}
		result, err = f.Convert(ctx, src, dst, o)
		return err
	})
	if err != nil || !w.Resume {
		return result, err
	}
	return result, fault.Wrap(os.Remove(checkpoint), "remove the checkpoint")
}

func checkpointName(path string) string { return PartialName(path) + ".checkpoint" }

// dropStale removes a checkpoint whose output is gone: it is of no use.
func dropStale(checkpoint string, files *Files) error {
	resumed, err := files.Resumed()
	if err != nil || resumed {
		return err
	}
	return fault.Wrap(ignore(os.Remove(checkpoint), fs.ErrNotExist), "remove an old checkpoint")
}

// DiscardPartial removes what interrupted copies to path have left: unfinished files under hidden names, and the checkpoint. Nothing there is no error.
func DiscardPartial(path string) error {
	dir, name := filepath.Split(path)
	stem := strings.TrimSuffix(name, filepath.Ext(name))
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return ignore(err, fs.ErrNotExist)
	}
	for _, e := range entries {
		own := e.Name() == filepath.Base(PartialName(path)) || e.Name() == filepath.Base(checkpointName(path))
		extent, named := strings.CutPrefix(e.Name(), "."+stem+"-")
		if own || named && isExtent(strings.TrimSuffix(extent, filepath.Ext(name)+".partial")) {
			err = errors.Join(err, ignore(os.Remove(filepath.Join(dir, e.Name())), fs.ErrNotExist))
		}
	}
	return fault.Wrap(err, "leftover of an earlier run")
}

// isExtent reports whether a name ends as those of an image's other files do: flat, s001, f001. Anything else may be the file of another copy.
func isExtent(s string) bool {
	if s == "flat" {
		return true
	}
	return len(s) >= 4 && (s[0] == 's' || s[0] == 'f') && strings.Trim(s[1:], "0123456789") == ""
}
