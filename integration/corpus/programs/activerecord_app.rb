# A tour of Rails' ActiveRecord: schema statements, models, queries. What it sends is recorded; nothing is checked. PG*
# variables say where to.
require "active_record"

ActiveRecord::Base.establish_connection(adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"])
ActiveRecord::Migration.verbose = false

class Setup < ActiveRecord::Migration[6.1]
  def change
    enable_extension "citext"
    create_table :publishers do |t|
      t.string :name, null: false, limit: 80, index: { unique: true }
      t.citext :slug
      t.timestamps
    end
    create_table :books, id: :uuid, comment: "books" do |t|
      t.references :publisher, foreign_key: { on_delete: :cascade }
      t.string :title, default: "it's"
      t.integer :state, default: 0
      t.decimal :price, precision: 8, scale: 2
      t.jsonb :data, default: {}
      t.text :tags, array: true, default: []
      t.int4range :span
      t.integer :lock_version, default: 0
      t.string :type
      t.timestamps default: -> { "now()" }
      t.index :data, using: :gin, opclass: :jsonb_path_ops
      t.index "lower(title)", where: "price > 0", order: { title: :desc }
    end
    create_join_table(:books, :tags, column_options: { type: :uuid }) { |t| t.index :book_id }
    create_table(:tags, id: :uuid) { |t| t.string :name; t.integer :books_count, default: 0 }
    add_check_constraint :books, "price >= 0", name: "price_positive"
    add_column :publishers, :rating, :float, default: 1.5
    rename_column :publishers, :rating, :stars
    change_column_null :publishers, :stars, false, 0
  end
end

class Change < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!
  def up
    add_index :tags, :name, algorithm: :concurrently
    change_column :publishers, :stars, :integer, using: "stars::integer"
    change_column_default :publishers, :stars, from: 0, to: 3
    add_foreign_key :books_tags, :books, validate: false
    validate_foreign_key :books_tags, :books
    remove_index :tags, :name
    create_table(:extra) { |t| t.interval :wait; t.inet :net; t.tsvector :words; t.point :at; t.bit :flags, limit: 3 }
    rename_table :extra, :more
    change_table(:more, bulk: true) { |t| t.string :a; t.boolean :b, default: false; t.remove :net }
    execute "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM books"
    drop_table :more, force: :cascade
  end
end

class Publisher < ActiveRecord::Base
  has_many :books, dependent: :destroy
  scope :good, -> { where("stars > ?", 1) }
end

class Tag < ActiveRecord::Base
  has_and_belongs_to_many :books
end

class Book < ActiveRecord::Base
  belongs_to :publisher, optional: true, touch: true
  has_and_belongs_to_many :tags
  enum state: { draft: 0, sold: 1 }
  validates :title, uniqueness: { scope: :publisher_id, case_sensitive: false }
end

class Comic < Book; end

def fill
  publishers = ["Ace", "O'Reilly", "100% \\"].map { |n| Publisher.create!(name: n, slug: n.downcase) }
  tags = Tag.create!([{ name: "a" }, { name: "-- b;" }])
  6.times { |i| Book.create!(title: "Book #{i}", publisher: publishers[i % 3], price: i, data: { n: i }, tags: tags[0..i % 2]) }
  Comic.create!(title: "Comic", span: 1..5)
  publishers
end

def queries
  old = Book.where(price: 0..2)
  b = Book.arel_table
  window = Arel::Nodes::Window.new.partition(b[:publisher_id]).order(b[:price].desc)
  [
    Book.where(title: %w[a b], state: :draft).where.not(price: nil).order(price: :desc, title: :asc).limit(2).offset(1),
    Book.where("title ILIKE :t OR data @> :j", t: "%book%", j: { n: 1 }.to_json).or(old),
    Book.where("? = ANY (tags)", "x").rewhere(title: "y").unscope(:where),
    Book.joins(:publisher, :tags).where(publishers: { name: "Ace" }).distinct,
    Book.left_joins(:tags).group(:id).having("COUNT(tags.id) > 1").select("books.*, COUNT(tags.id) AS n"),
    Book.includes(:publisher, :tags), Book.eager_load(:tags).limit(1), Book.preload(:publisher),
    Publisher.good.merge(Publisher.where(id: Book.select(:publisher_id))),
    Publisher.where(Book.where("publisher_id = publishers.id").arel.exists),
    Publisher.joins("JOIN LATERAL (SELECT max(price) AS top FROM books WHERE publisher_id = publishers.id) t ON true").select("name, top"),
    Book.from(Book.select("price * 2 AS double"), :s).select("s.double"),
    Book.select(b[:id], b[:price].sum.over(window).as("s")),
    Book.order(Arel.sql("data->>'n' NULLS LAST")), Book.order(:title).reverse_order, Comic.all, Book.none, Book.where(span: 1..3),
    Book.lock, Book.lock("FOR SHARE OF books NOWAIT").joins(:publisher), Book.lock("FOR NO KEY UPDATE SKIP LOCKED").limit(1),
    Book.annotate("why */ not").optimizer_hints("SeqScan(books)"), Book.extending.readonly,
  ].each { |q| q.to_a }
end

def single
  Book.count; Book.distinct.count(:publisher_id); Book.group(:state).sum(:price); Book.average(:price); Book.maximum(:price)
  Book.pluck(:id, Arel.sql("upper(title)")); Book.ids; Book.exists?(title: "x"); Book.first; Book.last; Book.take; Book.find_by(title: "Book 1")
  Book.find_each(batch_size: 2) { |x| x }; Book.in_batches(of: 3).update_all("price = price + 1"); Book.where(price: 1).explain
  Book.connection.select_value("SELECT current_database()"); Book.find_by_sql(["SELECT * FROM books WHERE price > ?", 1])
  tree = "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT n FROM t"
  Book.connection.select_values(tree)
  Book.connection.exec_query("SELECT $1::int", "x", [[nil, 1]])
end

def changes(publishers)
  Book.insert_all([{ title: "i1" }, { title: "i2" }], returning: %w[id title])
  Publisher.upsert_all([{ name: "Ace", created_at: Time.now, updated_at: Time.now }], unique_by: :name)
  Publisher.insert({ name: "Ace", created_at: Time.now, updated_at: Time.now })
  Publisher.find_or_create_by!(name: "New")
  Publisher.create_or_find_by!(name: "New")
  book = Book.find_by(title: "Book 1")
  book.update!(title: "Changed", data: { "a" => ["'"] }, tags: [])
  book.increment!(:price); book.touch
  book.with_lock("FOR UPDATE NOWAIT") { book.sold! }
  book.reload(lock: true)
  Book.update_counters(book.id, price: 2)
  Book.where(publisher: publishers[0]).joins(:publisher).update_all(price: 5)
  Book.joins(:tags).where(tags: { name: "a" }).delete_all
  Book.where(title: "i1").limit(1).delete_all
  Book.transaction(isolation: :serializable) { Book.create!(title: "s") }
  Book.transaction { Book.transaction(requires_new: true) { Book.create!(title: "undone"); raise ActiveRecord::Rollback } }
  publishers[1].destroy!
  Publisher.destroy_by(name: "New")
  Publisher.connection.truncate_tables("publishers", "books", "books_tags")
  Publisher.connection.get_advisory_lock(5)
  Publisher.connection.release_advisory_lock(5)
  Publisher.connection.reset_pk_sequence!("publishers")
  Publisher.connection.disable_referential_integrity { Publisher.delete_all }
end

def structure
  c = ActiveRecord::Base.connection
  c.tables.each { |t| c.columns(t); c.indexes(t); c.foreign_keys(t); c.check_constraints(t); c.primary_keys(t); c.table_comment(t) }
  c.views; c.extensions; c.schema_names; c.data_source_exists?("books"); c.schema_search_path = "public"
  c.execute("SET LOCAL statement_timeout = '1s'"); c.reset!
  ActiveRecord::SchemaDumper.dump(c, File.open(File::NULL, "w"))
end

context = ActiveRecord::MigrationContext.new([], ActiveRecord::SchemaMigration)
context.current_version
Setup.migrate(:up)
Change.migrate(:up)
ActiveRecord::InternalMetadata.create_table
ActiveRecord::SchemaMigration.create_table
ActiveRecord::SchemaMigration.create!(version: "1")
publishers = fill
queries
single
changes(publishers)
structure
ActiveRecord::Migration.drop_table(:books_tags)
ActiveRecord::Migration.drop_table(:books, force: :cascade, if_exists: true)
