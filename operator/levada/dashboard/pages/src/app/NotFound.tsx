import { Compass } from "lucide-react";
import { Link } from "react-router";
import { EmptyState } from "@/components/states";

export function NotFound() {
  return (
    <EmptyState icon={Compass} title="There is no such page">
      <Link className="link" to="/">
        Go to the overview
      </Link>
    </EmptyState>
  );
}
