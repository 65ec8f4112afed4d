package pki

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/certs"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The files that Issue makes, beside CAFile.
const (
	IssuedFile    = "client.pem"
	IssuedKeyFile = "client.key"
)

// Wish is a client certificate that somebody is to get.
type Wish struct {
	// Name is the user whom it stands for.
	Name string
	// Methods are those that its holder has power on, as Service.Method; "*" stands for any service or method.
	Methods []string
	// Lifetime is how long it is good for; 0 = a year.
	Lifetime time.Duration
}

// Issue makes a client certificate of the CA in dir, which must be there, and writes it with its key and the CA's certificate into the directory out. Files
// that are there are not replaced: AlreadyExists.
func Issue(dir, out string, now time.Time, wish Wish) error {
	if wish.Name == AdminName {
		return fault.New(fault.InvalidArgument, "name %q: is that of the administrator", wish.Name)
	}
	ca, err := certs.Read(filepath.Join(dir, CAFile), filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.FailedPrecondition, "%s: there is no CA; the daemon makes it when it is started for the first time", dir)
	}
	if err != nil {
		return err
	}
	pair, err := ca.NewUser(certs.User{Name: wish.Name, Methods: wish.Methods}, certs.Term{Now: now, Lifetime: wish.Lifetime})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fault.Wrap(err, "certificate")
	}
	for _, name := range []string{IssuedFile, IssuedKeyFile, CAFile} {
		if _, err := os.Lstat(filepath.Join(out, name)); !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.AlreadyExists, "%s: is there; choose another directory", filepath.Join(out, name))
		}
	}
	if err := certs.WriteCertificate(filepath.Join(out, CAFile), ca.Cert); err != nil {
		return err
	}
	return pair.Write(filepath.Join(out, IssuedFile), filepath.Join(out, IssuedKeyFile))
}
