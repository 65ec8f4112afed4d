package libvirt_test
import ("testing";"fmt";"time";"github.com/hyperplane-project/hyperplane/server/hypervisor";"net/netip")
func TestZZ(t *testing.T){
 _,d,_:=sharedLibvirt(t)
 n:=hypervisor.Network{Name:"zz",Bridge:"zz",Gateway:netip.MustParsePrefix("10.200.0.1/16"),Isolated:true}
 if err:=d.EnsureNetwork(t.Context(),n);err!=nil{t.Fatal(err)}
 var ls []hypervisor.Lease
 for _,k:=range []int{1,1,10,100,500}{
 for range k { i:=len(ls); ls=append(ls,hypervisor.Lease{MAC:fmt.Sprintf("52:54:00:00:%02x:%02x",i/256,i%256),Address:netip.AddrFrom4([4]byte{10,200,byte(1+i/250),byte(1+i%250)}),Hostname:fmt.Sprintf("h%d",i)})}
 s:=time.Now()
 err:=d.SetLeases(t.Context(),"zz",ls)
 t.Log(k,time.Since(s),err)
 }
 s:=time.Now(); err:=d.SetLeases(t.Context(),"zz",nil); t.Log(time.Since(s),err)
}
